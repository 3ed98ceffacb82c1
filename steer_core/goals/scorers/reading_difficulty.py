"""Reading difficulty: the Flesch-Kincaid grade level, unrounded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from steer_core.goals.analysis import TextAnalysis
from steer_core.goals.scorer import Scorer


def flesch_kincaid_grade(words_per_sentence: float, syllables_per_word: float) -> float:
    """US school grade of a text.

    Kincaid, Fishburne, Rogers and Chissom (1975), Derivation of new readability formulas for Navy enlisted personnel.
    """
    return 0.39 * words_per_sentence + 11.8 * syllables_per_word - 15.59


@dataclass(frozen=True)
class ReadingDifficulty(Scorer):
    """Flesch-Kincaid grade from the words, sentences and syllables that textstat 0.7.5 counts, without its roundings.

    textstat rounds words per sentence, syllables per word, and the grade to one decimal; one step of the second is 1.18
    grades, more than a small request. Undefined for a text without words.
    """

    name: ClassVar[str] = "reading_difficulty"
    version: ClassVar[int] = 2

    def measure(self, analyses: Sequence[TextAnalysis]) -> list[float | None]:
        """Grade of each text."""
        return [
            flesch_kincaid_grade(a.n_words / a.n_sentences, a.n_syllables / a.n_words) if a.n_words else None
            for a in analyses
        ]


def build() -> Scorer:
    """The scorer; it has no options."""
    return ReadingDifficulty()
