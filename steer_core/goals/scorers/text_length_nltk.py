"""Text length as NLTK's `word_tokenize` counts it: only to reproduce published numbers."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from steer_core.goals.analysis import TextAnalysis
from steer_core.goals.scorer import Scorer, raise_unavailable


@dataclass(frozen=True)
class TextLengthNltk(Scorer):
    """Length of `nltk.word_tokenize(text)`: Punkt's sentences, then the Penn Treebank's words."""

    name: ClassVar[str] = "text_length_nltk"
    version: ClassVar[int] = 1

    def measure(self, analyses: Sequence[TextAnalysis]) -> list[float | None]:
        """Tokens of each text; undefined where there are none."""
        tokenize = importlib.import_module("nltk.tokenize").word_tokenize
        return [float(n) if (n := len(tokenize(a.text))) else None for a in analyses]


def build() -> Scorer:
    """The scorer; refused where NLTK or its Punkt data is not installed.

    The words of `word_tokenize` need no data, its sentences do; and it strips a period only from the end of a sentence,
    so that counts without Punkt would be others.
    """
    remedy = "run `pip install nltk` and `python -m nltk.downloader punkt_tab`, or use scorer 'text_length'"
    if importlib.util.find_spec("nltk") is None:
        raise_unavailable(f"scorer 'text_length_nltk' needs the package nltk, which is not installed: {remedy}")
    try:
        importlib.import_module("nltk.tokenize").word_tokenize("Is it here? It is.")
    except LookupError:
        raise_unavailable(
            f"scorer 'text_length_nltk' needs NLTK's data 'punkt_tab', which is not installed: {remedy}, which needs "
            "no download"
        )
    return TextLengthNltk()
