"""Contrast pairs for goals, mined from a model's own answers to the training pool.

Two answers to one source text make a pair for a goal where they lie far apart on it and close on the others, so that
the direction between them means that goal and little else. So vectors can be fitted for every goal of a bench, without
any data but what prompts gave.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from schemas.contrasts import ContrastExamples
from schemas.digest import canonical_json, digest_json
from steer_core.goals.space import GoalSpace
from steer_core.steering.plan import Message
from steer_core.tables.errors import ConfigError, SteerworksError

Doubles = NDArray[np.float64]
log = logging.getLogger(__name__)

#: A goal with fewer pairs is refused: halves of them could not even be compared.
FEWEST = 8
#: Where mined examples say that they come from.
SOURCE = "fit responses"


@dataclass(frozen=True)
class Source:
    """A source text of the training pool, as far as a prompt that says nothing of goals needs it.

    Attributes:
        text_id: hash of the text.
        text: the text.
    """

    text_id: str
    text: str


@dataclass(frozen=True)
class _Pair:
    """Two answers (rows of the outcomes), the first higher on the goal; and how well they serve."""

    high: int
    low: int
    gap: float
    score: float


def mine_contrasts(
    requests: pl.DataFrame,
    request_goals: pl.DataFrame,
    fit_outcomes: pl.DataFrame,
    fit_goal_values: pl.DataFrame,
    space: GoalSpace,
    goals: Sequence[str],
    *,
    messages_of: Callable[[Source], Sequence[Message]],
    min_gap: float = 0.2,
    max_other: float = 0.5,
    weight: float = 1.0,
    max_pairs: int = 256,
) -> pl.DataFrame:
    """Contrast pairs of each goal.

    A pair's score is its gap on the goal minus `weight` times the root mean square of its gaps on the other goals, but
    for goals that are undefined for one of the answers. Pairs are taken by falling score; an answer serves in one pair
    a goal.

    Args:
        requests: rows of `requests`.
        request_goals: rows of `request_goals`: which goals were asked for.
        fit_outcomes: what was chosen for each request of the training pool; failures are left out.
        fit_goal_values: `goal_values` of the chosen texts.
        space: the goal space.
        goals: goals to mine for.
        messages_of: turns before the answer, for a source text; the same for both sides.
        min_gap: smallest gap on the goal, in z.
        max_other: largest gap on any other goal, in z.
        weight: what a gap on the others costs.
        max_pairs: most pairs of a goal.

    Returns:
        Rows of `contrast_examples`: concept = goal, kind `mined`, split `train`; label 1 is the higher answer.

    Raises:
        ConfigError: an unknown goal, or a setting out of range.
        SteerworksError: a goal gets fewer than `FEWEST` pairs; tells the cause and what to raise.
    """
    if unknown := [goal for goal in goals if goal not in space.goals]:
        raise ConfigError(f"goal {unknown[0]!r} is not in the goal space ({', '.join(space.goals)})")
    if not (0.0 < min_gap <= 1.0 and 0.0 <= max_other <= 1.0 and weight >= 0.0 and max_pairs > 0):
        raise ConfigError(
            f"goal contrasts: min_gap {min_gap} must be in (0, 1], max_other {max_other} in [0, 1], weight {weight} at "
            f"least 0 and max_pairs {max_pairs} at least 1"
        )
    asked = requests.select("request_id", pl.col("text_id").alias("source_id"), pl.col("text").alias("source_text"))
    answers = fit_outcomes.filter(pl.col("failure").is_null()).join(asked, on="request_id", maintain_order="left")
    answers = answers.unique(["source_id", "text_id"], keep="first", maintain_order=True)
    z, _ = space.locate(space.matrix(fit_goal_values, answers["text_id"]))
    texts = answers["source_id"].to_list()
    rows: list[dict[str, object]] = []
    messages: dict[str, str] = {}
    for goal in goals:
        axis = space.goals.index(goal)
        found = list(_candidates(z, texts, axis, min_gap, max_other, weight))
        pairs = _disjoint(found)[:max_pairs]
        if len(pairs) < FEWEST:
            raise SteerworksError(_too_few(goal, len(pairs), len(found), z[:, axis], answers, request_goals, min_gap))
        log.info(
            "goal %r: %d pairs of %d answers, mean gap %.2f", goal, len(pairs), len(z), np.mean([p.gap for p in pairs])
        )
        for rank, pair in enumerate(pairs):
            source = answers.row(pair.high, named=True)
            key = source["source_id"]
            if key not in messages:
                turns = messages_of(Source(key, source["source_text"]))
                messages[key] = canonical_json([{"role": m.role, "content": m.content} for m in turns])
            rows += _examples(goal, messages[key], answers["text"][pair.high], answers["text"][pair.low], rank)
    return pl.DataFrame(rows, schema=ContrastExamples.empty().schema, orient="row")


def _candidates(
    z: Doubles, texts: Sequence[str], axis: int, min_gap: float, max_other: float, weight: float
) -> Iterator[_Pair]:
    """Pairs of answers to one source that part on the goal and not on the others."""
    members: dict[str, list[int]] = {}
    for i, text in enumerate(texts):
        if np.isfinite(z[i, axis]):
            members.setdefault(text, []).append(i)
    for answers in members.values():
        for i, k in combinations(answers, 2):
            high, low = (i, k) if z[i, axis] > z[k, axis] else (k, i)
            gap = float(z[high, axis] - z[low, axis])
            others = np.delete(np.abs(z[high] - z[low]), axis)
            others = others[np.isfinite(others)]
            if gap >= min_gap and not (others > max_other).any():
                cost = float(np.sqrt((others**2).mean())) if others.size else 0.0
                yield _Pair(high, low, gap, gap - weight * cost)


def _disjoint(candidates: Sequence[_Pair]) -> list[_Pair]:
    """The best pairs such that no answer is in two of them."""
    used: set[int] = set()
    chosen = []
    for pair in sorted(candidates, key=lambda p: (-p.score, p.high, p.low)):
        if pair.high not in used and pair.low not in used:
            used |= {pair.high, pair.low}
            chosen.append(pair)
    return chosen


def _examples(goal: str, messages: str, high: str, low: str, rank: int) -> Iterator[dict[str, object]]:
    pair_id = digest_json([goal, messages, high, low])
    for label, answer in ((1, high), (0, low)):
        yield {
            "example_id": digest_json([pair_id, label]),
            "concept": goal,
            "kind": "mined",
            "split": "train",
            "pair_id": pair_id,
            "label": label,
            "messages": messages,
            "answer": answer,
            "letter": None,
            "source": SOURCE,
            "row": rank,
        }


def _too_few(
    goal: str,
    n_pairs: int,
    n_candidates: int,
    z: Doubles,
    answers: pl.DataFrame,
    request_goals: pl.DataFrame,
    min_gap: float,
) -> str:
    """What there was to choose from, and what a user can do about it."""
    asked = request_goals.filter((pl.col("goal") == goal) & pl.col("z_star").is_not_null())
    n_asked = answers.join(asked, on="request_id", how="semi").height
    texts = answers["source_id"].to_list()
    several = sum(count > 1 for count in Counter(texts).values())
    alone = list(_candidates(z[:, None], texts, 0, min_gap, 1.0, 0.0))
    return (
        f"goal {goal!r} gets {n_pairs} contrast pairs of the training pool's answers; at least {FEWEST} are needed. "
        f"There are {len(texts)} answers to {len(set(texts))} texts: {several} texts have several answers, {n_asked} "
        f"answers were asked for this goal, {len(alone)} pairs lie {min_gap:g} apart on it, and {n_candidates} of them "
        "close on the other goals. Raise `n_texts` or `n_goals_per_text` of the training probe, raise `max_other`, or "
        "lower `min_gap`"
    )
