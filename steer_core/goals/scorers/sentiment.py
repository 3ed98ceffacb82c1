"""Sentiment: VADER's compound score."""

from __future__ import annotations

import functools
import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from steer_core.goals.analysis import TextAnalysis, stretches
from steer_core.goals.scorer import Scorer

#: Most words that VADER gets at once.
LONGEST = 100


@functools.cache
def _vader() -> Any:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer()


@dataclass(frozen=True)
class Sentiment(Scorer):
    """Tone from -1 (negative) to 1 (positive): mean over sentences of VADER's compound score.

    The mean over sentences keeps long texts apart, whose compound over everything saturates at the ends. Sentences
    beyond `LONGEST` words are cut into stretches of that many, for VADER takes quadratic time in a sentence.
    Undefined for a text without words. Hutto and Gilbert (2014), VADER: a parsimonious rule-based model for sentiment
    analysis of social media text; the package `vaderSentiment` does the counting.
    """

    name: ClassVar[str] = "sentiment"
    version: ClassVar[int] = 2

    def measure(self, analyses: Sequence[TextAnalysis]) -> list[float | None]:
        """Tone of each text."""
        return [self._of(a) for a in analyses]

    def _of(self, analysis: TextAnalysis) -> float | None:
        if not analysis.words:
            return None
        tones = [compound(part) for sentence in analysis.sentences for part in stretches(sentence, LONGEST)]
        return sum(tones) / len(tones)


def compound(text: str) -> float:
    """VADER's compound score: s / sqrt(s^2 + 15) of the sum of valences s, which the package rounds to 4 digits."""
    vader = _vader()
    return 0.0 if _without_tone(text, vader) else float(vader.polarity_scores(text)["compound"])


def _without_tone(text: str, vader: Any) -> bool:
    """Whether no word of a text has a valence: everything else that VADER counts only scales those that have."""
    if not text.isascii():
        # an emoji stands for words
        return False
    lexicon = vader.lexicon
    return not any(w in lexicon or w.strip(string.punctuation) in lexicon for w in text.lower().split())


def build() -> Scorer:
    """The scorer; it has no options."""
    return Sentiment()
