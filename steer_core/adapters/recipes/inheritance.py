"""Active inheritance (Shimabucoro et al. 2024): supervised tuning on the best of k answers, the model's own or others'.

Candidates are drawn from the model without an adapter, or from several models, measured by the ruler and by the metrics
that the recipe names, and selected; one a request (or a prompt of a set) is trained on, token for token as it was
written. What was drawn stays in the run's folder: a run that is taken up again draws what is missing, and no more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from schemas.recipes import InheritanceRecipe
from steer_core.adapters.inheritance.candidates import Drawn, draw, measured
from steer_core.adapters.inheritance.measures import followed, unknown_measures
from steer_core.adapters.inheritance.others import ask_others, spelt
from steer_core.adapters.inheritance.selection import Candidate, Selection, correlations, pools, select, shares
from steer_core.adapters.recipe import Training
from steer_core.adapters.rewards import unknown_goals
from steer_core.adapters.run import kept_steps
from steer_core.adapters.sft import Row, fine_tune, fitting, not_shared, steps_of
from steer_core.adapters.training import with_room
from steer_core.generation.engines.transformers import TransformersBackend
from steer_core.statistics import best_of_curve
from steer_core.tables.errors import ConfigError

__all__ = ["SPEC", "VERSION", "follows", "not_shared", "prepare", "train", "unknown"]

SPEC = InheritanceRecipe
#: Raised when the same recipe and data give other weights.
VERSION = "1"
#: Rows of the run that say how many steps it has, once that is known.
_PLAN = "plan"


def prepare(recipe: InheritanceRecipe, training: Training) -> None:
    """Have other models write, unless the run is done: processes that train together have no engines of theirs.

    Raises:
        ConfigError: a goal, a metric of texts or a scorer that there is not.
        SteerworksError: another model's engine cannot do what is asked, or does not answer.
    """
    _refuse(recipe, training)
    training.run.begin()
    if not training.run.rows(_PLAN):
        ask_others(recipe, training)


def train(recipe: InheritanceRecipe, training: Training) -> dict[int, Path]:
    """Draw, select and train, or go on where a run of the same folder stopped; returns the states that are kept.

    Raises:
        ConfigError: a goal, a metric or a scorer that there is not, no prompt leaves room for an answer, or an option
            that trl does not have.
        SteerworksError: nothing can be chosen (`select`).
    """
    run = training.run
    done, known = run.begin(), run.rows(_PLAN)
    if known and done == known[-1]["steps"]:
        kept = kept_steps(done, recipe.checkpoints)
        return {s: p for s, p in run.checkpoints().items() if s in kept}
    # before answers are drawn for nothing
    _refuse(recipe, training)
    # before it is loaded: one device holds one model at a time
    ask_others(recipe, training)
    loaded = training.load()
    backend = TransformersBackend(loaded)
    prompts = with_room(training.plans, backend, recipe.max_new_tokens, training.say)
    if not prompts:
        raise ConfigError("no request can be trained on: give the bench other texts, or lower `max_new_tokens`")
    own = training.name in recipe.writers(training.name)
    drawn = draw(recipe, training, sorted(prompts), backend) if own else []
    drawn += spelt(recipe, training, backend, prompts)
    candidates = measured(drawn, training, recipe)
    selection = select(candidates, recipe)
    _tell(candidates, selection, training)
    if not run.rows("samples"):
        _note(drawn, candidates, selection, training)
    rows = [Row(tuple(prompts[r]), drawn[i].tokens) for r, i in selection.chosen.items()]
    rows = fitting(rows, training, loaded)
    run.append(_PLAN, [{"step": 0, "steps": steps_of(recipe, len(rows))}])
    return fine_tune(recipe, rows, training, loaded, _figures(candidates, selection, recipe, training))


def unknown(recipe: InheritanceRecipe) -> Iterator[str]:
    """Metrics of texts, scorers and attributes that the recipe names and there are not."""
    return unknown_measures(recipe)


def follows(recipe: InheritanceRecipe) -> list[Any]:
    """Versions of the metrics and scorers of profiles that answers are chosen by."""
    return followed(recipe)


def _refuse(recipe: InheritanceRecipe, training: Training) -> None:
    for wrong in (*unknown_goals(recipe, training.goals), *unknown_measures(recipe, late=True)):
        raise ConfigError(wrong)


def _tell(candidates: Sequence[Candidate], selection: Selection, training: Training) -> None:
    said = ", ".join(f"{name} {n}" for name, n in selection.counts.items())
    training.say(f"{len(selection.chosen)} answers are trained on ({said})")
    for reason, n in selection.reasons.items():
        training.say(f"{n} answers are not scored, for they have no {reason}")
    for source in sorted({c.source for c in candidates}):
        of = [c for c in candidates if c.source == source]
        if all(c.failure is not None for c in of):
            training.say(f"none of {len(of)} answers of {source} is one: {_failures(of)}")


def _failures(candidates: Sequence[Candidate]) -> str:
    return ", ".join(f"{n} {why}" for why, n in Counter(str(c.failure) for c in candidates).most_common())


def _note(drawn: Sequence[Drawn], candidates: Sequence[Candidate], selection: Selection, training: Training) -> None:
    samples, measures = [], []
    for i, (one, candidate) in enumerate(zip(drawn, candidates, strict=True)):
        target = training.targets.get(one.request_id)
        samples.append(
            {
                "step": 1,
                "sample": i,
                "request_id": one.request_id,
                "raw": one.raw,
                "text": candidate.text,
                "finish_reason": one.finish_reason,
                "reward": float(selection.rewards[i]),
                "advantage": None,
                "copied": target is not None and candidate.text.split() == target.source.split(),
                "state": selection.state(i),
                "model": one.model or training.name,
            }
        )
        named = {f"z:{m[5:]}" if m.startswith("goal:") else f"metric:{m}": v for m, v in candidate.metrics.items()}
        named["metric:log_likelihood"] = one.log_likelihood  # of one that cannot be trained on it is not known
        measures += [{"step": 1, "sample": i, "measure": name, "value": v} for name, v in named.items()]
    training.run.append("measures", measures)
    # last: where there are samples, there are all of both
    training.run.append("samples", samples)


def _figures(
    candidates: Sequence[Candidate], selection: Selection, recipe: InheritanceRecipe, training: Training
) -> dict[str, float]:
    """What is logged with the first step: counts, what selection moved, how metrics go together, the curve in k."""
    able = [i for own in selection.ranked.values() for i in own]
    chosen = list(selection.chosen.values())
    metrics = ["steering_error", "meaning", "length", *(f"goal:{g}" for g in training.goals)]
    metrics += [name for name in dict.fromkeys(n for _, n in recipe.named()) if name not in metrics]
    figures = {f"selection:{name}": float(n) for name, n in selection.counts.items()}
    figures |= {f"undefined:{reason}": float(n) for reason, n in selection.reasons.items()}
    for metric in metrics:
        figures[f"pool:{metric}"] = _mean(candidates, able, metric)
        figures[f"chosen:{metric}"] = _mean(candidates, chosen, metric)
    matrix = correlations(candidates, metrics)
    for a, one in enumerate(metrics):
        for b in range(a + 1, len(metrics)):
            figures[f"correlation:{one}:{metrics[b]}"] = float(matrix[a, b])
    if recipe.models:
        for source, (drawn, kept) in shares(candidates, selection.chosen).items():
            model = training.name if source == training.base else source
            figures |= {f"pool_share:{model}": drawn, f"share:{model}": kept}
    # a prompt that is no request shares no text with another
    sources = {r: training.targets[r].source if r in training.targets else r for r in selection.ranked}
    for aim in recipe.objectives:
        for k, estimate in enumerate(best_of_curve(pools(candidates, selection, aim.metric, sources)), start=1):
            for end in ("value", "low", "high"):
                found = getattr(estimate, end)
                name = f"best_of:{aim.metric}:{k}" + ("" if end == "value" else f":{end}")
                figures[name] = float("nan") if found is None else found
    return figures


def _mean(candidates: Sequence[Candidate], indices: Sequence[int], metric: str) -> float:
    values = [candidates[i].metrics[metric] for i in indices if candidates[i].has(metric)]
    return float(np.mean(values)) if values else float("nan")
