"""Textual diversity as taaled 0.32 computes it, on spaCy lemmas: only to reproduce published numbers."""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from steer_core.goals.analysis import TextAnalysis
from steer_core.goals.scorer import Scorer, raise_unavailable
from steer_core.goals.scorers._spacy import SpacyToken, parse, require_spacy

_DROPPED = frozenset(["PUNCT", "NUM", "SYM", "SPACE", "X"])


def factor_lengths(tokens: Sequence[str], threshold: float = 0.72, least: int = 10) -> Iterator[tuple[int, float]]:
    """Length and proportion of each factor, in one direction.

    A factor closes when its type-token ratio is below the threshold and it has at least `least` tokens, but never at
    the last token: what the last token ends gets the proportion (1 - TTR) / (1 - threshold), which may exceed 1.
    """
    start, seen = 0, set[str]()
    for i, token in enumerate(tokens):
        seen.add(token)
        length = i + 1 - start
        ratio = len(seen) / length
        if i + 1 == len(tokens):
            yield length, (1 - ratio) / (1 - threshold)
        elif ratio < threshold and length >= least:
            yield length, 1.0
            start = i + 1
            seen.clear()


def mtld_of_factors(tokens: Sequence[str], threshold: float = 0.72, least: int = 10) -> float | None:
    """Mean of length / proportion over all forward and backward factors, those of proportion 0 left out.

    A tiny rest with a high type-token ratio weighs as much as a full factor, so values of several hundred occur. None
    where no factor is left (taaled says 0).
    """
    factors = [*factor_lengths(tokens, threshold, least), *factor_lengths(list(reversed(tokens)), threshold, least)]
    lengths = [length / proportion for length, proportion in factors if proportion]
    return sum(lengths) / len(lengths) if lengths else None


def lemmas(tokens: Iterable[SpacyToken], attested: Collection[str]) -> list[str]:
    """Lower-case lemmas with their part of speech; numbers, marks and words that are not attested left out."""
    return [f"{t.lemma_.lower()}_{t.pos_}" for t in tokens if t.pos_ not in _DROPPED and t.text.lower() in attested]


@functools.cache
def _attested() -> frozenset[str]:
    return frozenset(importlib.import_module("taaled.ld").realwords)


@dataclass(frozen=True)
class TextualDiversityTaaled(Scorer):
    """MTLD by the mean of factor lengths, on spaCy lemmas of words attested in COCA (taaled's list)."""

    name: ClassVar[str] = "textual_diversity_taaled"
    version: ClassVar[int] = 1

    def measure(self, analyses: Sequence[TextAnalysis]) -> list[float | None]:
        """Diversity of each text."""
        return [mtld_of_factors(lemmas(parse(a.text), _attested())) for a in analyses]


def build() -> Scorer:
    """The scorer; refused where spaCy's model or taaled is not installed."""
    require_spacy("textual_diversity_taaled", "textual_diversity")
    if importlib.util.find_spec("taaled") is None:
        raise_unavailable(
            "scorer 'textual_diversity_taaled' needs taaled's list of attested words: run `pip install taaled "
            "'setuptools<81'`, or use scorer 'textual_diversity', which needs no download"
        )
    return TextualDiversityTaaled()
