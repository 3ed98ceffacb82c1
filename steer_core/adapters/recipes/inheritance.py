"""Active inheritance (Shimabucoro et al. 2024): supervised tuning on the best of k answers, the model's own or others'.

Candidates are drawn from the model without an adapter, or from several models, measured by the ruler and by the metrics
that the recipe names, and selected; one a request (or a prompt of a set) is trained on, token for token as it was
written. What was drawn stays in the run's folder: a run that is taken up again draws what is missing, and no more.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from schemas.recipes import InheritanceRecipe
from steer_core.adapters.inheritance.candidates import draw, measured
from steer_core.adapters.inheritance.measures import followed, unknown_measures
from steer_core.adapters.inheritance.noting import figures, note, tell
from steer_core.adapters.inheritance.others import ask_others, spelt
from steer_core.adapters.inheritance.selection import select
from steer_core.adapters.recipe import Training
from steer_core.adapters.rewards import unknown_goals
from steer_core.adapters.run import kept_steps
from steer_core.adapters.sft import Row, fine_tune, fitting, not_shared, steps_of
from steer_core.adapters.training import with_room
from steer_core.generation.engines.transformers import TransformersBackend
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
    tell(candidates, selection, training)
    if not run.rows("samples"):
        note(drawn, candidates, selection, training)
    rows = [Row(tuple(prompts[r]), drawn[i].tokens) for r, i in selection.chosen.items()]
    rows = fitting(rows, training, loaded)
    run.append(_PLAN, [{"step": 0, "steps": steps_of(recipe, len(rows))}])
    return fine_tune(recipe, rows, training, loaded, figures(candidates, selection, recipe, training))


def unknown(recipe: InheritanceRecipe) -> Iterator[str]:
    """Metrics of texts, scorers and attributes that the recipe names and there are not."""
    return unknown_measures(recipe)


def follows(recipe: InheritanceRecipe) -> list[Any]:
    """Versions of the metrics and scorers of profiles that answers are chosen by."""
    return followed(recipe)


def _refuse(recipe: InheritanceRecipe, training: Training) -> None:
    for wrong in (*unknown_goals(recipe, training.goals), *unknown_measures(recipe, late=True)):
        raise ConfigError(wrong)
