"""Reading difficulty as textstat 0.7.5 gives it, roundings included: only to reproduce published numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from steer_core.goals.analysis import TextAnalysis
from steer_core.goals.scorer import Scorer
from steer_core.goals.scorers.reading_difficulty import flesch_kincaid_grade


def round_half_away(number: float) -> float:
    """One decimal, halves away from zero in the direction of `number`, in textstat's own order of operations."""
    return math.floor(number * 10 + math.copysign(0.5, number)) / 10


@dataclass(frozen=True)
class ReadingDifficultyTextstat(Scorer):
    """`textstat.flesch_kincaid_grade` of release 0.7.5, to the digit.

    One exception: a text without words is undefined here, where textstat says -15.6.
    """

    name: ClassVar[str] = "reading_difficulty_textstat"
    version: ClassVar[int] = 1

    def measure(self, analyses: Sequence[TextAnalysis]) -> list[float | None]:
        """Rounded grade of each text, as it stands: the tool knows no canonical form."""
        return [
            round_half_away(
                flesch_kincaid_grade(
                    round_half_away(a.n_words / a.n_sentences), round_half_away(a.n_syllables / a.n_words)
                )
            )
            if a.n_words
            else None
            for a in (analysis.verbatim for analysis in analyses)
        ]


def build() -> Scorer:
    """The scorer; it has no options."""
    return ReadingDifficultyTextstat()
