"""Textual diversity: MTLD, the measure of textual lexical diversity."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from steer_core.goals.analysis import TextAnalysis
from steer_core.goals.scorer import Scorer, check_number


def factors(tokens: Iterable[str], threshold: float = 0.72) -> float:
    """Factors of a token sequence read in one direction.

    A factor closes when its type-token ratio is at or below the threshold; the rest counts as the part of a factor
    that it has gone: (1 - TTR) / (1 - threshold).
    """
    closed, length = 0, 0
    seen: set[str] = set()
    add = seen.add
    for token in tokens:
        length += 1
        if token not in seen:
            # a new type can only raise the ratio, which was above the threshold
            add(token)
        elif len(seen) / length <= threshold:
            closed += 1
            length = 0
            seen.clear()
    if length:
        return closed + (1 - len(seen) / length) / (1 - threshold)
    return float(closed)


def mtld(tokens: Sequence[str], threshold: float = 0.72) -> float | None:
    """Mean of forward and backward tokens per factor; None where no token repeats, for then there is no factor.

    McCarthy and Jarvis (2010), MTLD, vocd-D, and HD-D, Behavior Research Methods 42, p. 384-385.

    Args:
        tokens: words, in order.
        threshold: type-token ratio at which a factor closes, in (0, 1).
    """
    forward = factors(tokens, threshold)
    if forward == 0:
        return None
    return (len(tokens) / forward + len(tokens) / factors(reversed(tokens), threshold)) / 2


@dataclass(frozen=True)
class TextualDiversity(Scorer):
    """MTLD of the lower-case words (numbers and marks left out, contractions whole).

    Undefined below `min_words` words, where the value mostly tells where the text stops, and where no word repeats:
    such a text has no factor, so its diversity has no upper bound. The default of 50 is where taaled starts to warn;
    Koizumi (2012) advises 100 words and more.

    Attributes:
        threshold: type-token ratio at which a factor closes.
        min_words: fewest words of a text with a value.
    """

    threshold: float = 0.72
    min_words: int = 50
    name: ClassVar[str] = "textual_diversity"
    version: ClassVar[int] = 2

    def __post_init__(self) -> None:
        check_number(self.name, "threshold", self.threshold, 0.01, 0.99)
        check_number(self.name, "min_words", self.min_words, 1)

    def measure(self, analyses: Sequence[TextAnalysis]) -> list[float | None]:
        """MTLD of each text, in words."""
        return [mtld(a.words, self.threshold) if len(a.words) >= self.min_words else None for a in analyses]


def build(*, threshold: float = 0.72, min_words: int = 50) -> Scorer:
    """The scorer.

    Args:
        threshold: type-token ratio at which a factor closes.
        min_words: fewest words of a text with a value.
    """
    return TextualDiversity(threshold, min_words)
