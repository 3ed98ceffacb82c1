"""Run a sweep: the open items of all arms in shared batches, and the two answers of scored items.

1. Strength and vector belong to the row, so all arms go through the backend together.
2. What the journal holds is not generated again: a grid that grew costs its new arms only.
3. An item's sample has the same seed in every arm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from schemas.digest import digest_text
from schemas.specs import Decoding
from schemas.sweeps import ArmAnswers
from steer_core.evaluation.behaviors.plans import batches, give_vectors, item_seed, messages_of, plan_of, score_rows
from steer_core.generation.backend import Backend, Call
from steer_core.generation.runner import Progress, printable, run_calls
from steer_core.steering.plan import Plan
from steer_core.steering.vector import SteeringVector
from steer_core.tables.errors import ConfigError
from steer_core.tables.journal import Journal

#: Bumped when the same arms and answers give other tables.
VERSION = "1"


@dataclass(frozen=True)
class SweepRun:
    """What running a sweep gives.

    Attributes:
        responses: rows of `responses`, each once.
        answers: rows of `arm_answers`: which response answers which item in which arm.
    """

    responses: pl.DataFrame
    answers: pl.DataFrame


def run_arms(
    arms: pl.DataFrame,
    items: pl.DataFrame,
    vectors: Sequence[SteeringVector],
    backend: Backend,
    journal: Journal,
    *,
    model_identity: str,
    decoding: Decoding,
    seed: int,
    batch_size: int,
    samples: int = 1,
    clean: Callable[[str], str] = str.strip,
    progress: Progress | None = None,
) -> SweepRun:
    """Write the answers of all open items in all arms.

    Args:
        arms: rows of `sweep_arms`, of one or several behaviors.
        items: rows of `behavior_items`; an arm answers those of its behavior.
        vectors: every vector that the arms use, controls included.
        backend: what generates.
        journal: of `responses`; answers in it are not generated again.
        model_identity: `ModelSpec.identity`.
        decoding: how answers are drawn.
        seed: the bench's seed.
        batch_size: rows generated together.
        samples: answers an item.
        clean: takes the answer out of what was written.
        progress: told after each batch.

    Raises:
        ConfigError: an arm uses a vector that is not given.
        SteerworksError: the backend cannot apply interventions.
    """
    give_vectors(backend, arms, vectors)
    asked: list[tuple[str, str, Call]] = []
    for arm, item in pairs(arms, items, {"open"}):
        plan = plan_of(arm, messages_of(item["messages"]), model_identity, decoding)
        for sample in range(samples):
            call = Call(plan, sample, item_seed(seed, item["item_id"], sample))
            asked.append((arm["arm_id"], item["item_id"], call))
    responses = run_calls([c for _, _, c in asked], backend, journal, batch_size, progress)
    texts = [printable(clean(raw)) for raw in responses["raw"]]
    responses = responses.with_columns(
        text=pl.Series(texts, dtype=pl.String),
        text_id=pl.Series([digest_text(t) for t in texts], dtype=pl.String),
    )
    written = {r["response_id"]: r for r in responses.iter_rows(named=True)}
    execution = backend.execution
    rows = []
    for arm_id, item_id, call in asked:
        row = written[call.response_id(execution)]
        rows.append(
            {
                "arm_id": arm_id,
                "item_id": item_id,
                "sample_index": call.sample_index,
                "response_id": row["response_id"],
                "text": row["text"],
                "failure": failure_of(row["text"], row["finish_reason"]),
            }
        )
    answers = pl.DataFrame(rows, schema=ArmAnswers.empty().schema, orient="row")
    return SweepRun(responses.sort("response_id"), answers)


def failure_of(text: str, finish_reason: str) -> str | None:
    """Why an open answer is none: overlong, empty or truncated; None where it is one.

    A truncated answer is still judged, as far as it goes: the share of them is a measure of its own.
    """
    if finish_reason == "overlong":
        return "overlong"
    if not text.strip():
        return "empty"
    return "truncated" if finish_reason == "length" else None


def score_items(
    arms: pl.DataFrame,
    items: pl.DataFrame,
    vectors: Sequence[SteeringVector],
    backend: Backend,
    *,
    model_identity: str,
    decoding: Decoding,
    batch_size: int,
    progress: Progress | None = None,
) -> pl.DataFrame:
    """Log-probabilities of the two answers of every A/B and pair item in every arm, as measures.

    With a, b the log-probabilities of the positive and the negative answer, summed over their tokens:

    * `propensity`: a - b, in nats (Tan et al. 2024); for an item of letters this is the logit difference;
    * `accuracy`: 1 where a > b, 0 where not: with the right answer as the positive one, that of a neutral set;
    * letters only: `p_positive` = e^a / (e^a + e^b) (Rimsky et al. 2024) and `pair_mass` = e^a + e^b, the probability
      that the answer begins with one of the two: `p_positive` means little where it is near 0;
    * pairs only: `propensity_per_token`, a / tokens - b / tokens, so that the longer answer is not the less likely.

    What is scored is the exact string that an answer begins with, tokenised on its own as generation would write it:
    `(A` of an item whose letters are `(A)` and `(B)` (the bracket behind a letter is no part of the choice), `A` where
    the prompt itself ends in `(`. A tokenizer may hold `(A` as one token or as two: the sum over them is meant.

    Args:
        arms: rows of `sweep_arms`.
        items: rows of `behavior_items`; open ones are left aside.
        vectors: every vector that the arms use.
        backend: what scores.
        model_identity: `ModelSpec.identity`.
        decoding: written into the plans; it plays no part in a score.
        batch_size: rows scored together.
        progress: told after each batch.

    Returns:
        Rows of `arm_scores`.

    Raises:
        ConfigError: an item lacks an answer, or a vector is not given.
        SteerworksError: the backend cannot score, or cannot apply interventions.
    """
    asked = list(pairs(arms, items, {"ab", "pair"}))
    if not asked:
        return score_rows([])
    give_vectors(backend, arms, vectors)
    plans: list[Plan] = []
    continuations: list[str] = []
    for arm, item in asked:
        plan = plan_of(arm, messages_of(item["messages"]), model_identity, decoding)
        plans += [plan, plan]
        continuations += scored_answers(item)
    scores = score_all(plans, continuations, backend, batch_size, progress)
    rows: list[tuple[str, str, int, str, str, float | None]] = []
    for k, (arm, item) in enumerate(asked):
        head = (arm["arm_id"], item["item_id"], 0, item["group"])
        rows += [(*head, name, value) for name, value in _measures(item["form"], scores[2 * k], scores[2 * k + 1])]
    return score_rows(rows)


def scored_answers(item: dict[str, Any]) -> tuple[str, str]:
    """The two strings that are scored: the answers of a pair; letters up to and including the letter.

    Raises:
        ConfigError: the item lacks one of its answers, or they are equal.
    """
    positive, negative = item["positive"], item["negative"]
    if not positive or not negative or positive == negative:
        raise ConfigError(
            f"item {item['item_id']} of behavior {item['behavior']!r} ({item['source']}, row {item['row']}) needs two "
            f"different answers to choose between; it has {positive!r} and {negative!r}"
        )
    if item["form"] != "ab":
        return positive, negative
    common = 0
    while common < min(len(positive), len(negative)) - 1 and positive[-1 - common] == negative[-1 - common]:
        common += 1
    return positive[: len(positive) - common], negative[: len(negative) - common]


def score_all(
    plans: Sequence[Plan],
    continuations: Sequence[str],
    backend: Backend,
    batch_size: int,
    progress: Progress | None = None,
) -> list[list[float]]:
    """`backend.score` of any number of rows, in batches of like length; a row that occurs twice is scored once.

    Raises:
        SteerworksError: the backend cannot score.
    """
    for plan in plans:
        backend.capabilities.refuse(plan, "score")
    keys = [(p.id, c) for p, c in zip(plans, continuations, strict=True)]
    first = {key: i for i, key in reversed(list(enumerate(keys)))}
    distinct = sorted(first.values())
    lengths = [backend.prompt_tokens(plans[i]) + len(continuations[i]) // 3 for i in distinct]
    found: dict[tuple[str, str], list[float]] = {}
    for batch in batches(lengths, batch_size):
        rows = [distinct[j] for j in batch]
        scored = backend.score([plans[i] for i in rows], [continuations[i] for i in rows])
        found |= {keys[i]: s for i, s in zip(rows, scored, strict=True)}
        if progress is not None:
            progress(len(found), len(distinct))
    return [found[key] for key in keys]


def pairs(arms: pl.DataFrame, items: pl.DataFrame, forms: set[str]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Every arm with every item of its behavior in one of these forms."""
    by_behavior: dict[str, list[dict[str, Any]]] = {}
    for item in items.iter_rows(named=True):
        if item["form"] in forms:
            by_behavior.setdefault(item["behavior"], []).append(item)
    return [(arm, item) for arm in arms.iter_rows(named=True) for item in by_behavior.get(arm["behavior"], [])]


def _measures(form: str, positive: Sequence[float], negative: Sequence[float]) -> list[tuple[str, float]]:
    a, b = float(np.sum(positive)), float(np.sum(negative))
    found = [("propensity", a - b), ("accuracy", float(a > b))]
    if form == "ab":
        # e^a / (e^a + e^b) without overflow
        return [
            *found,
            ("p_positive", float(np.exp(a - np.logaddexp(a, b)))),
            ("pair_mass", float(np.exp(a) + np.exp(b))),
        ]
    return [*found, ("propensity_per_token", a / len(positive) - b / len(negative))]
