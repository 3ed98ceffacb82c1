"""Counts and lengths: how much text there is, in which portions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from steer_core.evaluation.profiles.family import Family, Resources
from steer_core.evaluation.profiles.reading import Reading
from steer_core.evaluation.profiles.value import UNSPACED, Value, all_missing, spread


@dataclass(frozen=True)
class Counts(Family):
    """Numbers of characters, words, sentences and so on, which a blank text has as well: 0; and spreads of lengths.

    Standard deviations are those of the text itself (divisor n), as in textdescriptives. That tool's words are other
    ones: it counts white space as a word and drops every part of a contraction that has an apostrophe; here neither.
    """

    metrics: ClassVar[Mapping[str, str]] = {
        "n_characters": "characters that are no white space",
        "n_tokens": "words, parts of contractions and punctuation marks",
        "n_words": "words",
        "n_unique_words": "different words, without regard to case",
        "n_syllables": "syllables",
        "n_sentences": "sentences",
        "n_lines": "lines that are not blank",
        "n_paragraphs": "paragraphs",
        **{
            f"{what}_{statistic}": f"{words}, {said}"
            for what, words in (
                ("word_length", "letters and digits a word"),
                ("sentence_length", "words a sentence"),
                ("syllables_per_word", "syllables a word"),
            )
            for statistic, said in (("mean", "mean"), ("median", "median"), ("std", "standard deviation"))
        },
    }

    def measure(self, readings: Sequence[Reading]) -> list[tuple[Value, ...]]:
        """Values of each text."""
        return [_of(reading) for reading in readings]


def _of(reading: Reading) -> tuple[Value, ...]:
    no_words, no_syllables = reading.no_words, reading.no_syllables
    uncountable = no_words if no_words is UNSPACED else None
    # a text without words has no syllables: 0 of them
    unknown_syllables = None if uncountable is None and not reading.forms else no_syllables
    return (
        float(sum(map(len, reading.text.split()))),
        uncountable or float(len(reading.tokens)),
        uncountable or float(len(reading.forms)),
        uncountable or float(len(set(reading.forms))),
        unknown_syllables or float(sum(reading.syllables)),
        uncountable or float(len(reading.sentence_lengths)),
        float(len(reading.lines)),
        float(len(reading.paragraphs)),
        *(all_missing(no_words, 3) if no_words else spread(reading.lengths)),
        *(all_missing(no_words, 3) if no_words else spread(reading.sentence_lengths)),
        *(all_missing(no_syllables, 3) if no_syllables else spread(reading.syllables)),
    )


def build(resources: Resources) -> Family:
    """The family; it needs nothing beyond the text."""
    return Counts()
