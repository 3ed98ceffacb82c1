"""Preference tuning: DPO, IPO, KTO and ORPO by trl, on the better and the worse of a model's own answers, or on a file.

Candidates are drawn, measured and ranked as active inheritance does; of each request the best and the worst are a pair,
where they are not worth the same. What was drawn stays in the run's folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from schemas.preference_recipe import PreferenceRecipe
from steer_core.adapters.inheritance.candidates import draw, measured
from steer_core.adapters.inheritance.measures import followed, unknown_measures
from steer_core.adapters.inheritance.noting import figures, note, tell
from steer_core.adapters.inheritance.others import ask_others, spelt
from steer_core.adapters.inheritance.selection import Selection, lot, select
from steer_core.adapters.preferences import PairRow, fitting_pairs, prefer
from steer_core.adapters.recipe import Training
from steer_core.adapters.rewards import unknown_goals
from steer_core.adapters.run import kept_steps
from steer_core.adapters.training import with_room
from steer_core.corpus.contrasts.pairs import import_pairs
from steer_core.corpus.contrasts.records import tabulate
from steer_core.generation.engines.transformers import TransformersBackend
from steer_core.models.loading import LoadedModel
from steer_core.tables.errors import ConfigError
from steer_core.vectors.encoding import pairs_of
from steer_core.vectors.preference.pair_tokens import encode_pairs

__all__ = ["SPEC", "VERSION", "follows", "train", "unknown"]

SPEC = PreferenceRecipe
#: Raised when the same recipe and data give other weights.
VERSION = "1"
#: Rows of the run that say how many steps it has, once that is known.
_PLAN = "plan"
#: What the pairs of a file are called while they are read.
_CONCEPT = "pairs"


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
    wrongs = (
        ()
        if recipe.pairs is not None
        else (*unknown_goals(recipe, training.goals), *unknown_measures(recipe, late=True))
    )
    for wrong in wrongs:
        raise ConfigError(wrong)
    said: dict[str, float] = {}
    if recipe.pairs is not None:
        loaded = training.load()
        rows = _of_file(recipe, loaded)
        training.say(f"{len(rows)} pairs of {Path(recipe.pairs.path).name} are trained on")
    else:
        # before it is loaded: one device holds one model at a time
        ask_others(recipe, training)
        loaded = training.load()
        rows, said = _of_answers(recipe, training, loaded)
    rows = fitting_pairs(rows, training, loaded)
    run.append(_PLAN, [{"step": 0, "steps": _steps(recipe, len(rows))}])
    return prefer(recipe, rows, training, loaded, {**said, "selection:pairs": float(len(rows))})


def unknown(recipe: PreferenceRecipe) -> Iterator[str]:
    """Metrics of texts, scorers and attributes that the recipe names and there are not."""
    return unknown_measures(recipe)


def follows(recipe: PreferenceRecipe) -> list[Any]:
    """Versions of the metrics and scorers of profiles that answers are ranked by."""
    return followed(recipe)


def _steps(recipe: PreferenceRecipe, pairs: int) -> int:
    shown = recipe.epochs * pairs
    if recipe.loss == "kto" and shown % recipe.batch == 1:
        shown -= 1
    return -(-shown // recipe.batch)


def _of_file(recipe: PreferenceRecipe, loaded: LoadedModel) -> list[PairRow]:
    assert recipe.pairs is not None
    examples = tabulate(_CONCEPT, import_pairs(recipe.pairs)).examples
    encoded = encode_pairs(loaded, pairs_of(examples), _CONCEPT)
    return [PairRow(p.prompt, p.chosen, p.rejected) for p in encoded]


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
    tell(candidates, selection, training)
    training.say(f"{len(pairs)} of {len(selection.chosen)} requests have a better and a worse answer")
    if not pairs:
        raise ConfigError("no request has two answers of different worth: draw more, or raise `temperature`")
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
        others = [i for i in selection.ranked[request] if i != best and tuple(tokens[i]) != tuple(tokens[best])]
        if recipe.select == "random":
            others.sort(key=lambda i: lot(recipe.seed, f"rejected:{names[i]}"))
        else:
            others = [i for i in others if selection.rewards[i] < selection.rewards[best]]
        if others:
            found[request] = (best, others[0] if recipe.select == "random" else others[-1])
    return found
