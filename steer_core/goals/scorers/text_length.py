"""Text length: words and punctuation marks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from steer_core.goals.analysis import TextAnalysis
from steer_core.goals.scorer import Scorer


@dataclass(frozen=True)
class TextLength(Scorer):
    """Number of tokens: words, parts of contractions (`do`, `n't`), and punctuation marks.

    The conventions are those of the Penn Treebank, as in NLTK's `word_tokenize`, without its sentence model.
    Undefined for a text without tokens.
    """

    name: ClassVar[str] = "text_length"
    version: ClassVar[int] = 2

    def measure(self, analyses: Sequence[TextAnalysis]) -> list[float | None]:
        """Tokens of each text."""
        return [float(len(a.tokens)) if a.tokens else None for a in analyses]


def build() -> Scorer:
    """The scorer; it has no options."""
    return TextLength()
