"""What the sources of goal contrasts share: limits, what pairs are made from, what was found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from schemas.digest import canonical_json, digest_json
from steer_core.goals.space import GoalSpace
from steer_core.steering.plan import Message
from steer_core.tables.errors import ConfigError

Doubles = NDArray[np.float64]

#: A goal with fewer pairs gets no vector: halves of them could not even be compared.
FEWEST = 8
#: A source that gives so many is enough; none of those after it is looked at.
ENOUGH = 32


@dataclass(frozen=True)
class Limits:
    """Which pairs serve.

    Attributes:
        min_gap: smallest gap on the goal, in z.
        max_other: largest gap on any other goal, in z.
        weight: what a gap on the others costs.
        max_pairs: most pairs of a goal.
    """

    min_gap: float = 0.2
    max_other: float = 0.5
    weight: float = 1.0
    max_pairs: int = 256

    def __post_init__(self) -> None:
        """Raises a ConfigError where a limit is out of range."""
        in_range = 0.0 < self.min_gap <= 1.0 and 0.0 <= self.max_other <= 1.0
        if not (in_range and self.weight >= 0.0 and self.max_pairs > 0):
            raise ConfigError(
                f"goal contrasts: min_gap {self.min_gap} must be in (0, 1], max_other {self.max_other} in [0, 1], "
                f"weight {self.weight} at least 0 and max_pairs {self.max_pairs} at least 1"
            )


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
class Answers:
    """Answers to texts of the training pool, failures left out.

    Attributes:
        sources: what each answers.
        texts: the answers.
        z: where they landed, shape [n, goals]; NaN where undefined.
        asked: the goal that each was asked for on purpose, and +1 or -1; None for others.
    """

    sources: tuple[Source, ...]
    texts: tuple[str, ...]
    z: Doubles
    asked: tuple[tuple[str, int] | None, ...]

    @classmethod
    def none(cls, space: GoalSpace) -> Answers:
        """No answers."""
        return cls((), (), np.zeros((0, len(space.goals))), ())

    @classmethod
    def of_pool(
        cls, requests: pl.DataFrame, outcomes: pl.DataFrame, goal_values: pl.DataFrame, space: GoalSpace
    ) -> Answers:
        """Those to the requests of a training pool.

        Args:
            requests: rows of `requests`.
            outcomes: what was chosen for each; failures are left out.
            goal_values: `goal_values` of the chosen texts.
            space: the goal space.
        """
        asked = requests.select("request_id", pl.col("text_id").alias("source_id"), pl.col("text").alias("source_text"))
        rows = outcomes.filter(pl.col("failure").is_null()).join(asked, on="request_id", maintain_order="left")
        if not rows.height:
            return cls.none(space)
        z, _ = space.locate(space.matrix(goal_values, rows["text_id"]))
        sources = tuple(Source(i, t) for i, t in rows.select("source_id", "source_text").iter_rows())
        return cls(sources, tuple(rows["text"]), z, (None,) * rows.height)

    def __add__(self, other: Answers) -> Answers:
        """Both together."""
        return Answers(
            self.sources + other.sources,
            self.texts + other.texts,
            np.concatenate([self.z, other.z]),
            self.asked + other.asked,
        )

    def take(self, chosen: Sequence[int]) -> Answers:
        """Some of them; the same answer to one text is kept once."""
        kept: dict[tuple[str, str], int] = {}
        for i in chosen:
            kept.setdefault((self.sources[i].text_id, self.texts[i]), i)
        at = list(kept.values())
        return Answers(
            tuple(self.sources[i] for i in at),
            tuple(self.texts[i] for i in at),
            self.z[at],
            tuple(self.asked[i] for i in at),
        )


@dataclass(frozen=True)
class Pair:
    """Two texts by number, the first higher on the goal; and how well they serve."""

    high: int
    low: int
    gap: float
    score: float


@dataclass(frozen=True)
class Found:
    """What one source gives one goal.

    Attributes:
        pairs: pairs, the best first.
        examples: rows of `contrast_examples`.
        candidates: pairs that served, before each text was used once.
        note: what there was to choose from, in words.
    """

    pairs: tuple[Pair, ...]
    examples: tuple[dict[str, Any], ...] = field(repr=False)
    candidates: int
    note: str

    @property
    def gap(self) -> float | None:
        """Mean gap of the pairs on the goal, in z."""
        return float(np.mean([p.gap for p in self.pairs])) if self.pairs else None


def best_disjoint(candidates: Sequence[Pair], most: int) -> tuple[Pair, ...]:
    """The best pairs such that no text is in two of them."""
    used: set[int] = set()
    chosen = []
    for pair in sorted(candidates, key=lambda p: (-p.score, p.high, p.low)):
        if pair.high not in used and pair.low not in used:
            used |= {pair.high, pair.low}
            chosen.append(pair)
    return tuple(chosen[:most])


def as_messages(turns: Sequence[Message]) -> str:
    """Turns as `contrast_examples` has them."""
    return canonical_json([{"role": m.role, "content": m.content} for m in turns])


def example_rows(
    goal: str, kind: str, pairs: Sequence[Pair], texts: Sequence[str], messages: Callable[[Pair], str], source: str
) -> Iterator[dict[str, Any]]:
    """Rows of `contrast_examples` of pairs: concept = goal, split `train`; label 1 is the higher text."""
    for rank, pair in enumerate(pairs):
        before, high, low = messages(pair), texts[pair.high], texts[pair.low]
        pair_id = digest_json([goal, before, high, low])
        for label, answer in ((1, high), (0, low)):
            yield {
                "example_id": digest_json([pair_id, label]),
                "concept": goal,
                "kind": kind,
                "split": "train",
                "pair_id": pair_id,
                "label": label,
                "messages": before,
                "answer": answer,
                "letter": None,
                "source": source,
                "row": rank,
            }
