"""Eight readability indices, from one set of counts. All were made for English prose of a hundred words and more."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from steer_core.evaluation.profiles.family import Family, Resources
from steer_core.evaluation.profiles.reading import Reading
from steer_core.evaluation.profiles.value import Missing, Value, all_missing
from steer_core.goals.scorers.reading_difficulty import flesch_kincaid_grade

#: Syllables from which a word is hard, and characters beyond which it is long.
HARD, LONG = 3, 6
#: Fewest sentences of a text with a SMOG grade; its author asks for 30.
SMOG_SENTENCES = 3
_FEW = Missing(f"fewer than {SMOG_SENTENCES} sentences")


def flesch_reading_ease(words_per_sentence: float, syllables_per_word: float) -> float:
    """Ease, about 0 (hard) to 100 (easy). Flesch (1948), A new readability yardstick."""
    return 206.835 - 1.015 * words_per_sentence - 84.6 * syllables_per_word


def smog(hard_words: float, sentences: float) -> float:
    """US school grade. McLaughlin (1969), SMOG grading: the form with both constants."""
    return 1.043 * math.sqrt(30.0 * hard_words / sentences) + 3.1291


def gunning_fog(words_per_sentence: float, hard_share: float) -> float:
    """US school grade. Gunning (1952), The technique of clear writing; names and inflected forms are not excepted.

    Args:
        words_per_sentence: mean.
        hard_share: share of the words that have three syllables or more, in [0, 1].
    """
    return 0.4 * (words_per_sentence + 100.0 * hard_share)


def automated_readability_index(characters_per_word: float, words_per_sentence: float) -> float:
    """US school grade. Senter and Smith (1967), Automated readability index."""
    return 4.71 * characters_per_word + 0.5 * words_per_sentence - 21.43


def coleman_liau_index(characters_per_word: float, words_per_sentence: float) -> float:
    """US school grade, from characters and sentences a hundred words. Coleman and Liau (1975)."""
    return 5.88 * characters_per_word - 29.6 / words_per_sentence - 15.8


def lix(words_per_sentence: float, long_share: float) -> float:
    """Points, about 20 (easy) to 60 (hard). Bjornsson (1968), Lasbarhet.

    Args:
        words_per_sentence: mean.
        long_share: share of the words that have more than six characters, in [0, 1].
    """
    return words_per_sentence + 100.0 * long_share


def rix(long_words: float, sentences: float) -> float:
    """Long words a sentence. Anderson (1983), Lix and Rix."""
    return long_words / sentences


@dataclass(frozen=True)
class Readability(Family):
    """The indices of a text; those of syllables are missing outside Latin script."""

    metrics: ClassVar[Mapping[str, str]] = {
        "flesch_reading_ease": "206.835 - 1.015 words/sentences - 84.6 syllables/words",
        "flesch_kincaid_grade": "US school grade: 0.39 words/sentences + 11.8 syllables/words - 15.59",
        "smog": "US school grade: 1.043 sqrt(30 hard/sentences) + 3.1291",
        "gunning_fog": "US school grade: 0.4 (words/sentences + 100 hard/words)",
        "automated_readability_index": "US school grade: 4.71 characters/words + 0.5 words/sentences - 21.43",
        "coleman_liau_index": "US school grade: 5.88 characters/words - 29.6 sentences/words - 15.8",
        "lix": "words/sentences + 100 long/words",
        "rix": "long/sentences",
    }

    def measure(self, readings: Sequence[Reading]) -> list[tuple[Value, ...]]:
        """Indices of each text."""
        return [_of(reading) for reading in readings]


def _of(reading: Reading) -> tuple[Value, ...]:
    if reading.no_words:
        return all_missing(reading.no_words, len(Readability.metrics))
    n, sentences = len(reading.forms), len(reading.sentence_lengths)
    per_sentence, characters = n / sentences, sum(reading.lengths) / n
    long_words = sum([length > LONG for length in reading.lengths])
    return (
        *_of_syllables(reading, n, sentences),
        automated_readability_index(characters, per_sentence),
        coleman_liau_index(characters, per_sentence),
        lix(per_sentence, long_words / n),
        rix(long_words, sentences),
    )


def _of_syllables(reading: Reading, n: int, sentences: int) -> tuple[Value, ...]:
    if reading.no_syllables:
        return all_missing(reading.no_syllables, 4)
    hard = sum([count >= HARD for count in reading.syllables])
    per_word = sum(reading.syllables) / n
    return (
        flesch_reading_ease(n / sentences, per_word),
        flesch_kincaid_grade(n / sentences, per_word),
        smog(hard, sentences) if sentences >= SMOG_SENTENCES else _FEW,
        gunning_fog(n / sentences, hard / n),
    )


def build(resources: Resources) -> Family:
    """The family; it needs nothing beyond the text."""
    return Readability()
