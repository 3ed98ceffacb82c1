"""An iteration of SteerLM 2.0: the weights of what was drawn, and training on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from schemas.steerlm_recipe import SteerlmRecipe
from steer_core.adapters.recipe import Training
from steer_core.adapters.sft import fine_tune
from steer_core.adapters.steerlm.annotating import Annotated
from steer_core.adapters.steerlm.distilling import Distillation, WeightedRow, log_likelihoods
from steer_core.adapters.steerlm.hindsight import ORDER, Layout
from steer_core.adapters.steerlm.weighting import Weights, log_attributes, weigh
from steer_core.models.loading import LoadedModel

Floats = NDArray[np.float64]
#: Rows of the run that log-probabilities are kept in, of step 0.
FILE = "log_probabilities"


def weights_of(
    recipe: SteerlmRecipe,
    training: Training,
    loaded: LoadedModel,
    start: Path,
    layout: Layout,
    annotated: Sequence[Annotated],
    asked: Sequence[Mapping[str, int]],
) -> tuple[Weights, dict[str, Floats]]:
    """Weights of answers, and the log-probabilities behind them, by name; those that the run has are not taken again.

    Args:
        recipe: answers of a group, precision, the largest weight.
        training: the run.
        loaded: the model; it wears `start` from here on.
        start: the state that wrote the answers.
        layout: rows of prompts and answers.
        annotated: groups of `recipe.answers` that stand together.
        asked: what each was drawn for.

    Raises:
        SteerworksError: no group can be weighted.
    """
    rows = training.run.rows(FILE)
    if not rows:
        from peft import PeftModel

        model, pad = PeftModel.from_pretrained(loaded.model, str(start)), loaded.tokenizer.pad_token_id
        text = log_likelihoods(model, [layout.row(a.drawn, {}) for a in annotated], pad)
        sampler = log_likelihoods(model, [layout.row(a.drawn, b) for a, b in zip(annotated, asked, strict=True)], pad)
        rows = [{"step": 0, "text": t, "sampler": s} for t, s in zip(text.tolist(), sampler.tolist(), strict=True)]
        training.run.put(FILE, rows)
    said = {name: np.array([row[name] for row in rows], dtype=np.float64) for name in ("text", "sampler")}
    attributes = log_attributes(annotated, asked, layout.prompt, recipe.precision)
    weights = weigh(recipe, attributes, said["text"], said["sampler"])
    return weights, {"log_attributes": attributes, "log_text": said["text"], "log_sampler": said["sampler"]}


def iterate(
    recipe: SteerlmRecipe,
    seed: int,
    training: Training,
    loaded: LoadedModel,
    start: Path,
    layout: Layout,
    annotated: Sequence[Annotated],
    asked: Sequence[Mapping[str, int]],
    weights: Weights,
    log_sampler: Floats,
    further: Mapping[str, float],
) -> None:
    """Train on weighted groups to the end; as `sft.fine_tune`.

    Args:
        recipe: epochs, requests of a step, learning rate.
        seed: of the order.
        training: the run.
        loaded: the model, without an adapter.
        start: the state that training starts from.
        layout: rows of prompts and answers.
        annotated: groups of `recipe.answers` that stand together.
        asked: what each was drawn for.
        weights: of each.
        log_sampler: log Q' of each in nats, shape [n].
        further: figures that are logged with the first step.

    Raises:
        ConfigError: as `sft.fine_tune`.
    """
    n, rows = recipe.answers, list[WeightedRow]()
    for i, (one, labels) in enumerate(zip(annotated, asked, strict=True)):
        if np.isnan(weights.weight[i]):
            continue
        row = layout.row(one.drawn, labels)
        there = not np.isnan(weights.log_attributes[i])
        old = float(log_sampler[i]) if there else float("inf")
        rows.append(WeightedRow(row.prompt, row.completion, float(weights.weight[i]), old))
    groups = len(rows) // n
    places = list[int]()
    for epoch in range(recipe.iteration_epochs):
        for group in np.random.default_rng([seed, ORDER, epoch]).permutation(groups).tolist():
            places += range(group * n, (group + 1) * n)
    settings = recipe.model_copy(
        update={
            "epochs": recipe.iteration_epochs,
            "batch": recipe.prompts_per_step * n,
            "learning_rate": recipe.iteration_rate,
        }
    )
    fine_tune(settings, rows, training, loaded, further, schedule=places, start=start, objective=Distillation(n))


def steps_of(recipe: SteerlmRecipe, weights: Weights) -> int:
    """Optimiser steps of an iteration."""
    return -(-recipe.iteration_epochs * len(weights.effective) // recipe.prompts_per_step)


def figures_of_weights(weights: Weights) -> dict[str, float]:
    """What is logged of them with the first step."""
    trained = weights.weight[~np.isnan(weights.weight)]
    return {
        "weights:groups": float(len(weights.effective)),
        "weights:left_out": float(weights.left_out),
        "weights:effective_sample_size": float(weights.effective.mean()),
        "weights:effective_least": float(weights.effective.min()),
        "weights:largest": float(trained.max()),
    }
