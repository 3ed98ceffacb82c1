"""Preference tuning: DPO, IPO, KTO and ORPO by trl, on the better and the worse of a model's own answers, or on a file.

Candidates are drawn, measured and ranked as active inheritance does; of each request the best and the worst are a pair,
where they are not worth the same. What was drawn stays in the run's folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from schemas.preference_recipe import PreferenceRecipe
from schemas.specs import Decoding
from steer_core.adapters.inheritance.candidates import draw, measured
from steer_core.adapters.inheritance.measures import followed, unknown_measures
from steer_core.adapters.inheritance.noting import figures, note, tell
from steer_core.adapters.inheritance.others import ask_others, spelt
from steer_core.adapters.inheritance.selection import Selection, lot, select
from steer_core.adapters.preferences import PairRow, fitting_pairs, prefer, steps_of
from steer_core.adapters.recipe import Training
from steer_core.adapters.rewards import unknown_goals
from steer_core.adapters.run import kept_steps
from steer_core.adapters.training import with_room
from steer_core.corpus.contrasts.pairs import import_pairs
from steer_core.corpus.contrasts.records import tabulate
from steer_core.generation.engines.transformers import TransformersBackend
from steer_core.models.loading import LoadedModel
from steer_core.steering.plan import Plan, messages_of
from steer_core.tables.errors import ConfigError
from steer_core.vectors.encoding import pairs_of

__all__ = ["SPEC", "VERSION", "follows", "prepare", "train", "unknown"]

SPEC = PreferenceRecipe
#: Raised when the same recipe and data give other weights.
VERSION = "1"
#: Rows of the run that say how many steps it has, once that is known.
_PLAN = "plan"
#: What the pairs of a file are called while they are read.
_CONCEPT = "pairs"


def prepare(recipe: PreferenceRecipe, training: Training) -> None:
    """Have other models write, unless the run is done: the process that trains may have no engines of theirs.

    Raises:
        ConfigError: a goal, a metric of texts or a scorer that there is not.
        SteerworksError: another model's engine cannot do what is asked, or does not answer.
    """
    _refuse(recipe, training)
    training.run.begin()
    if recipe.pairs is None and not training.run.rows(_PLAN):
        ask_others(recipe, training)


def train(recipe: PreferenceRecipe, training: Training) -> dict[int, Path]:
    """Draw, rank and train, or go on where a run of the same folder stopped; returns the states that are kept.

    Raises:
        ConfigError: a goal, a metric or a scorer that there is not, no prompt leaves room for an answer, no pair has a
            better side, or an option that trl does not have.
        SteerworksError: nothing can be ranked (`select`), or the file of pairs cannot be read.
    """
    run = training.run
    done, known = run.begin(), run.rows(_PLAN)
    if known and done == known[-1]["steps"]:
        kept = kept_steps(done, recipe.checkpoints)
        return {s: p for s, p in run.checkpoints().items() if s in kept}
    _refuse(recipe, training)
    said: dict[str, float] = {}
    if recipe.pairs is not None:
        loaded = training.load()
        rows = _of_file(recipe, TransformersBackend(loaded))
        training.say(f"{len(rows)} pairs of {Path(recipe.pairs.path).name} are trained on")
    else:
        # before it is loaded: one device holds one model at a time
        ask_others(recipe, training)
        loaded = training.load()
        rows, said = _of_answers(recipe, training, loaded)
    rows = fitting_pairs(rows, training, loaded)
    run.append(_PLAN, [{"step": 0, "steps": steps_of(recipe, len(rows))}])
    return prefer(recipe, rows, training, loaded, {**said, "selection:pairs": float(len(rows))})


def unknown(recipe: PreferenceRecipe) -> Iterator[str]:
    """Metrics of texts, scorers and attributes that the recipe names and there are not."""
    return unknown_measures(recipe)


def follows(recipe: PreferenceRecipe) -> list[Any]:
    """Versions of the metrics and scorers of profiles that answers are ranked by."""
    return followed(recipe)


def _refuse(recipe: PreferenceRecipe, training: Training) -> None:
    if recipe.pairs is not None:
        return
    for wrong in (*unknown_goals(recipe, training.goals), *unknown_measures(recipe, late=True)):
        raise ConfigError(wrong)


def _of_file(recipe: PreferenceRecipe, backend: TransformersBackend) -> list[PairRow]:
    """Pairs of a file, but for those that test; answers end in the token that ends an answer of the model."""
    assert recipe.pairs is not None
    examples = tabulate(_CONCEPT, import_pairs(recipe.pairs)).examples
    loaded, found = backend.loaded, []
    for row in pairs_of(examples).filter(pl.col("split") != "test").iter_rows(named=True):
        plan = Plan(loaded.spec.identity, Decoding(), messages_of(row["messages"]))
        sides = (
            (*loaded.tokenizer(row[side], add_special_tokens=False)["input_ids"], backend.end_of_turn)
            for side in ("chosen", "rejected")
        )
        pair = PairRow(tuple(backend.encode(plan)), *sides)
        if pair.chosen != pair.rejected:
            found.append(pair)
    if not found:
        raise ConfigError(
            f"{recipe.pairs.path} has no pair to train on: rows need a `prompt`, and two answers that differ"
        )
    return found


def _of_answers(
    recipe: PreferenceRecipe, training: Training, loaded: LoadedModel
) -> tuple[list[PairRow], dict[str, float]]:
    backend = TransformersBackend(loaded)
    prompts = with_room(training.plans, backend, recipe.max_new_tokens, training.say)
    if not prompts:
        raise ConfigError("no request can be trained on: give the bench other texts, or lower `max_new_tokens`")
    own = training.name in recipe.writers(training.name)
    drawn = draw(recipe, training, sorted(prompts), backend) if own else []
    drawn += spelt(recipe, training, backend, prompts)
    candidates = measured(drawn, training, recipe)
    selection = select(candidates, recipe)
    pairs = _pairs(
        selection, recipe, [d.tokens for d in drawn], [f"{d.request_id}:{d.sample}:{d.model}" for d in drawn]
    )
    training.say(f"{len(pairs)} of {len(selection.chosen)} requests have a better and a worse answer")
    if not pairs:
        raise ConfigError("no request has two answers of different worth: draw more, or raise `temperature`")
    # what makes no pair is not trained on
    selection = replace(selection, chosen={r: i for r, i in selection.chosen.items() if r in pairs})
    tell(candidates, selection, training)
    if not training.run.rows("samples"):
        sides = {i: 1.0 for i, _ in pairs.values()} | {i: -1.0 for _, i in pairs.values()}
        note(drawn, candidates, selection, training, sides)
    rows = [PairRow(tuple(prompts[r]), drawn[i].tokens, drawn[j].tokens) for r, (i, j) in pairs.items()]
    return rows, figures(candidates, selection, recipe, training)


def _pairs(
    selection: Selection, recipe: PreferenceRecipe, tokens: Sequence[Sequence[int]], names: Sequence[str]
) -> dict[str, tuple[int, int]]:
    """Request -> places of its better and its worse answer; of two by chance with `select: random`."""
    found = {}
    for request, best in selection.chosen.items():
        ranked = selection.ranked[request]
        others = [i for i in ranked if i != best and tuple(tokens[i]) != tuple(tokens[best])]
        # the control has the requests that the best have: those whose answers are not all worth the same
        if len({float(selection.rewards[i]) for i in ranked}) < 2:
            continue
        if recipe.select == "random":
            others.sort(key=lambda i: lot(recipe.seed, f"rejected:{names[i]}"))
        else:
            others = [i for i in others if selection.rewards[i] < selection.rewards[best]]
        if others:
            found[request] = (best, others[0] if recipe.select == "random" else others[-1])
    return found
