"""Formality with spaCy's tags, as Chang et al. (2025) measured it: only to reproduce published numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from steer_core.goals.analysis import TextAnalysis
from steer_core.goals.scorer import Scorer
from steer_core.goals.scorers._spacy import SpacyToken, parse, require_spacy
from steer_core.goals.scorers.formality import f_score

_CLASSES = {
    "NOUN": "noun",
    "ADJ": "adjective",
    "ADP": "preposition",
    "PRON": "pronoun",
    "VERB": "verb",
    "ADV": "adverb",
    "INTJ": "interjection",
}
_ARTICLES = frozenset(["a", "an", "the"])


def f_score_of_tokens(tokens: Iterable[SpacyToken]) -> float | None:
    """F-score over alphabetic tokens; None where there are none (the original says 50).

    Proper nouns, auxiliaries, conjunctions, numerals and determiners other than articles count as words only.
    """
    words = [t for t in tokens if t.is_alpha]
    if not words:
        return None
    counts = Counter(
        "article" if t.pos_ == "DET" and t.text.lower() in _ARTICLES else _CLASSES.get(t.pos_, "other") for t in words
    )
    return f_score(counts, len(words))


@dataclass(frozen=True)
class FormalitySpacy(Scorer):
    """F-score with the parts of speech of spaCy's en_core_web_sm. Undefined for a text without alphabetic tokens."""

    name: ClassVar[str] = "formality_spacy"
    version: ClassVar[int] = 1

    def measure(self, analyses: Sequence[TextAnalysis]) -> list[float | None]:
        """F-score of each text, 0 to 100."""
        return [f_score_of_tokens(parse(a.text)) for a in analyses]


def build() -> Scorer:
    """The scorer; refused where spaCy's model is not installed."""
    require_spacy("formality_spacy", "formality")
    return FormalitySpacy()
