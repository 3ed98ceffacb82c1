"""Lexical diversity: how rarely a text repeats its words. Numbers are no words here, and case does not matter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from steer_core.evaluation.profiles.family import Family, Resources
from steer_core.evaluation.profiles.reading import Reading
from steer_core.evaluation.profiles.value import NO_WORDS, Missing, Value, all_missing
from steer_core.goals.scorers.textual_diversity import TextualDiversity, factors, mtld

#: Words of the moving window (Covington and McFall 2010).
WINDOW = 50
_GOAL = TextualDiversity()
_UNREPEATED = Missing("no word comes twice: no factor closes")


def published_mtld(words: Sequence[str], threshold: float = 0.72) -> float:
    """MTLD as lexicalrichness 0.5.1 has it: a text without repetition counts as one factor, its length.

    That figure says how long the text is, not how diverse; use it to compare with published profiles.

    Args:
        words: in order, at least one.
        threshold: type-token ratio at which a factor closes.
    """

    def one_way(read: Sequence[str]) -> float:
        found = factors(read, threshold)
        return len(read) / found if found else float(len(read))

    return (one_way(words) + one_way(words[::-1])) / 2.0


def moving_average_ttr(words: Sequence[str], window: int = WINDOW) -> float:
    """Mean type-token ratio over all windows of that many words; does not fall with length as the plain ratio does.

    Covington and McFall (2010), Cutting the Gordian knot: the moving-average type-token ratio.

    Args:
        words: in order, at least `window` of them.
        window: words of a window.
    """
    inside: dict[str, int] = {}
    total = 0
    for i, word in enumerate(words):
        inside[word] = inside.get(word, 0) + 1
        if i >= window:
            gone = words[i - window]
            if inside[gone] == 1:
                del inside[gone]
            else:
                inside[gone] -= 1
        if i >= window - 1:
            total += len(inside)
    return total / (window * (len(words) - window + 1))


@dataclass(frozen=True)
class Diversity(Family):
    """Measures of different words and word sequences.

    Attributes:
        goal: whose threshold and fewest words `mtld` has, so that it is the goal `textual_diversity` of the text.
    """

    goal: TextualDiversity = _GOAL
    metrics: ClassVar[Mapping[str, str]] = {
        "type_token_ratio": "different words / words; falls with length",
        "moving_average_ttr": f"mean type-token ratio of all windows of {WINDOW} words",
        "mtld": "words until the type-token ratio falls to 0.72, mean of both directions",
        "mtld_published": "the same as lexicalrichness has it: no shortest text, and without repetition its length",
        "distinct_2": "different pairs of neighbouring words / pairs",
        "distinct_3": "different runs of three words / runs",
    }

    def measure(self, readings: Sequence[Reading]) -> list[tuple[Value, ...]]:
        """Values of each text."""
        return [self._of(reading) for reading in readings]

    def _of(self, reading: Reading) -> tuple[Value, ...]:
        words = reading.lexical
        if reading.no_words or not words:
            return all_missing(reading.no_words or NO_WORDS, len(self.metrics))
        return (
            len(set(words)) / len(words),
            moving_average_ttr(words) if len(words) >= WINDOW else Missing(f"fewer than {WINDOW} words"),
            self._mtld(words),
            published_mtld(words),
            _distinct(words, 2),
            _distinct(words, 3),
        )

    def _mtld(self, words: Sequence[str]) -> Value:
        if len(words) < self.goal.min_words:
            return Missing(f"fewer than {self.goal.min_words} words")
        value = mtld(words, self.goal.threshold)
        return _UNREPEATED if value is None else value


def _distinct(words: Sequence[str], n: int) -> Value:
    """Li et al. (2016), A diversity-promoting objective function: distinct n-grams / n-grams."""
    if len(words) < n:
        return Missing(f"fewer than {n} words")
    return len(set(zip(*(words[i:] for i in range(n)), strict=False))) / (len(words) - n + 1)


def build(resources: Resources) -> Family:
    """The family; it needs nothing beyond the text."""
    return Diversity()
