"""Candidates: drawn once and kept in the run's folder, and measured by what they may be selected by.

* steering_error: distance from the target in goal space (`evaluation.steerability`)
* meaning: overlap of content words with the source, in [0, 1]
* length: words
* goal:NAME: position on that goal, in [0, 1]
* text:METRIC, scorer:NAME:ATTRIBUTE: see `measures`; those that the recipe names

The first two are of requests: of an answer to a prompt that is none they are not defined.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np

from schemas.digest import digest_text
from schemas.recipes import InheritanceRecipe
from schemas.specs import Decoding
from schemas.tuning import TuningRecipe
from steer_core.adapters.inheritance.measures import measure
from steer_core.adapters.inheritance.selection import Candidate, Floats
from steer_core.adapters.recipe import Training
from steer_core.evaluation.meaning import content_f1_pairs
from steer_core.evaluation.profiles.value import Missing
from steer_core.evaluation.steerability import continuous_scores
from steer_core.generation.backend import BATCH_SIZE, Backend, Call
from steer_core.steering.plan import Plan
from steer_core.tables.errors import SteerworksError

#: Rows of the run that candidates are kept in. Of step 0: they stand before any checkpoint, and none cuts them off.
FILE, STEP = "candidates", 0


@dataclass(frozen=True)
class Drawn:
    """An answer as a model wrote it.

    Attributes:
        request_id: what it answers.
        sample: which of the request's answers.
        raw: its text.
        finish_reason: `stop` or `length`.
        tokens: ids of its tokens by the own tokenizer, the one that ends it included.
        log_likelihood: sum over its tokens under the own model, nats, at the temperature that it was drawn at.
        model: who wrote it: its name in the configuration; empty: the model that is trained.
        unfit: why it cannot be trained on; None where it can.
    """

    request_id: str
    sample: int
    raw: str
    finish_reason: str
    tokens: tuple[int, ...]
    log_likelihood: float
    model: str = ""
    unfit: str | None = None


def draw(recipe: InheritanceRecipe, training: Training, requests: Sequence[str], backend: Backend) -> list[Drawn]:
    """`recipe.samples` answers to each request, in order; those that the run has already are not drawn again.

    Each answer has a seed of its own, so that what a run draws does not depend on where it was interrupted.

    Args:
        recipe: how is drawn.
        training: the prompts, and the run that answers are kept in as they come.
        requests: ids of prompts that leave room for an answer.
        backend: an engine over the model without an adapter.

    Raises:
        SteerworksError: the engine gave an answer without a token.
    """
    return draw_under(
        recipe, training, {(r, k): training.plans[r] for r in requests for k in range(recipe.samples)}, backend
    )


def draw_under(
    recipe: TuningRecipe,
    training: Training,
    plans: Mapping[tuple[str, int], Plan],
    backend: Backend,
    purpose: str = "candidate",
) -> list[Drawn]:
    """An answer to each of some prompts, in order; those that the run has already are not drawn again.

    Of several processes each draws its share.

    Args:
        recipe: how is drawn.
        training: the run that answers are kept in as they come.
        plans: (request, which of its answers) -> the prompt, which must leave room for an answer.
        backend: an engine over the model, with the adapters that plans wear.
        purpose: part of each answer's seed.

    Raises:
        SteerworksError: the engine gave an answer without a token.
    """
    decoding = Decoding(
        max_new_tokens=recipe.max_new_tokens, temperature=recipe.temperature, top_p=1.0, min_p=recipe.min_p
    )
    found = kept(training)
    missing = [key for key in plans if key not in found]
    if missing:
        training.say(f"{len(missing)} of {len(plans)} answers are to be drawn")
    ranks = training.run.ranks
    own = missing[ranks.rank :: ranks.size]
    calls = [
        Call(replace(plans[r, k], decoding=decoding), k, seed_of(purpose, recipe.seed, r, k), log_probs=True)
        for r, k in own
    ]
    rows = _rows(own, calls, backend)
    # as many rounds in each process, though shares differ by one
    for _ in range(0, -(-len(missing) // ranks.size), BATCH_SIZE):
        training.run.append(FILE, ranks.together(list(islice(rows, BATCH_SIZE))))
    # the engine has ended, too, and every process can read what the first has written
    assert next(rows, None) is None
    ranks.wait()
    found = kept(training)
    return [found[key] for key in plans]


def _rows(keys: Sequence[tuple[str, int]], calls: Sequence[Call], backend: Backend) -> Iterator[dict[str, Any]]:
    """Answers as they end."""
    for finished in backend.generate(calls, BATCH_SIZE):
        (request, sample), answer = keys[finished.index], finished.generation
        if not answer.tokens:
            raise SteerworksError(f"request {request}: the engine wrote nothing, so there is nothing to choose")
        yield {
            "step": STEP,
            "request_id": request,
            "sample": sample,
            "raw": answer.raw,
            "finish_reason": answer.finish_reason,
            "tokens": list(answer.tokens),
            "log_likelihood": sum(answer.log_probs),
        }


def kept(training: Training) -> dict[tuple[str, int], Drawn]:
    """(request, which of its answers) -> the answers that a run has."""
    rows = [
        Drawn(r["request_id"], r["sample"], r["raw"], r["finish_reason"], tuple(r["tokens"]), r["log_likelihood"])
        for r in training.run.rows(FILE)
    ]
    return {(d.request_id, d.sample): d for d in rows}


def seed_of(purpose: str, seed: int, request: str, sample: int) -> int:
    """The seed of an answer: of its own, so that what a run draws does not depend on where it was interrupted."""
    return int(digest_text(f"{purpose}:{seed}:{request}:{sample}")[:15], 16)


def measured(drawn: Sequence[Drawn], training: Training, recipe: InheritanceRecipe | None = None) -> list[Candidate]:
    """Answers with their metrics; of one that failed, or of a goal that it has no value of, they are not defined.

    Args:
        drawn: the answers.
        training: ruler, and what the requests ask for; a prompt that is no request has no target.
        recipe: names further metrics; None: none.

    Raises:
        ConfigError, ScorerUnavailableError: a scorer that the recipe names cannot run.
    """
    answers = [training.failure(d.request_id, d.raw, d.finish_reason) for d in drawn]
    texts = [text for text, _ in answers]
    places = positions(texts, training)
    z = np.array([[places[t].get(g) for g in training.goals] for t in texts], dtype=np.float64)
    error, meaning = _of_requests(drawn, texts, z, training)
    failures = [failure or one.unfit for one, (_, failure) in zip(drawn, answers, strict=True)]
    whole = [t for t, failure in zip(texts, failures, strict=True) if failure is None]
    further = {} if recipe is None else measure(whole, recipe)
    found = []
    for i, (one, text, failure) in enumerate(zip(drawn, texts, failures, strict=True)):
        metrics = {
            "steering_error": float(error[i]),
            "meaning": float(meaning[i]),
            "length": float(len(text.split())),
            **{f"goal:{goal}": float(z[i, g]) for g, goal in enumerate(training.goals)},
        }
        values = {name: own[text] for name, own in further.items()} if failure is None else {}
        missing = {name: str(v) for name, v in values.items() if isinstance(v, Missing)}
        metrics |= {name: math.nan if isinstance(v, Missing) else v for name, v in values.items()}
        source = one.model or training.base
        likely = None if math.isnan(one.log_likelihood) else one.log_likelihood
        found.append(Candidate(one.request_id, one.sample, source, text, metrics, likely, failure, missing))
    return found


def _of_requests(drawn: Sequence[Drawn], texts: Sequence[str], z: Floats, training: Training) -> tuple[Floats, Floats]:
    """Steering error and meaning of each answer, NaN where it answers a prompt that is no request."""
    error, meaning = np.full(len(drawn), np.nan), np.full(len(drawn), np.nan)
    asked = [i for i, d in enumerate(drawn) if d.request_id in training.targets]
    if asked:
        targets = [training.targets[drawn[i].request_id] for i in asked]
        z0, z_star = np.stack([t.z0 for t in targets]), np.stack([t.z_star for t in targets])
        error[asked] = continuous_scores(z0, z_star, z[asked]).error
        meaning[asked] = content_f1_pairs([t.source for t in targets], [texts[i] for i in asked])
    return error, meaning


def positions(texts: Sequence[str], training: Training) -> dict[str, Mapping[str, float | None]]:
    """Positions in goal space by text, each measured once; nowhere for a text that is blank."""
    known = sorted({t for t in texts if t.strip()})
    places = training.ruler(known) if known else []
    blank: dict[str, Mapping[str, float | None]] = {t: {} for t in texts if not t.strip()}
    return {**dict(zip(known, places, strict=True)), **blank}
