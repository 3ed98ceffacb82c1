"""Dependency distance: how far words stand from the words that they depend on. Needs a parser.

Liu (2008), Dependency distance as a metric of language comprehension difficulty.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from steer_core.evaluation.profiles.family import Family, Parse, Resources
from steer_core.evaluation.profiles.reading import Reading
from steer_core.evaluation.profiles.value import NO_WORDS, Missing, Value, all_missing
from steer_core.goals.errors import ScorerUnavailableError
from steer_core.tables.errors import SteerworksError

_NO_PARSER = Missing("no parser was given (`parser` of a profile, `Resources.parse`)")
_ONLY_ROOTS = Missing("no word depends on another one")


def distances(heads: Sequence[int]) -> list[int]:
    """Distance of each word of a sentence to its head.

    The root, which has no head, is left out (Liu 2008); textdescriptives counts it as distance 0, which makes short
    sentences look simpler than they are.

    Args:
        heads: index of each word's head; the root's is its own.

    Raises:
        SteerworksError: a head lies outside the sentence.
    """
    if bad := [h for h in heads if not 0 <= h < len(heads)]:
        raise SteerworksError(f"the parser put a head at {bad[0]} in a sentence of {len(heads)} words")
    return [abs(head - i) for i, head in enumerate(heads) if head != i]


def _mean_and_std(values: Sequence[float]) -> tuple[float, float]:
    mean = sum(values) / len(values)
    return mean, (sum((v - mean) ** 2 for v in values) / len(values)) ** 0.5


@dataclass(frozen=True)
class Dependency(Family):
    """Distances by sentence, and their spread over sentences (divisor n).

    Attributes:
        parse: the parser.
        why: why there is none.
    """

    parse: Parse | None = None
    why: Missing = _NO_PARSER
    metrics: ClassVar[Mapping[str, str]] = {
        "dependency_distance_mean": "words between a word and its head, mean of a sentence; mean over sentences",
        "dependency_distance_std": "standard deviation of it over sentences",
        "prop_adjacent_dependency_relation_mean": "share of words beside their head in a sentence; mean over sentences",
        "prop_adjacent_dependency_relation_std": "standard deviation of it over sentences",
    }

    def measure(self, readings: Sequence[Reading]) -> list[tuple[Value, ...]]:
        """Values of each text.

        Raises:
            SteerworksError: the parser put a head outside its sentence.
        """
        return [self._of(reading) for reading in readings]

    def _of(self, reading: Reading) -> tuple[Value, ...]:
        if self.parse is None:
            return all_missing(self.why, 4)
        if not reading.text.strip():
            return all_missing(NO_WORDS, 4)
        found = [own for heads in self.parse(reading.text) if (own := distances(heads))]
        if not found:
            return all_missing(_ONLY_ROOTS, 4)
        return (
            *_mean_and_std([sum(own) / len(own) for own in found]),
            *_mean_and_std([own.count(1) / len(own) for own in found]),
        )


def spacy_parser(model: str = "en_core_web_sm") -> Parse:
    """A parser by an installed model of spaCy; its punctuation marks are words like others.

    Raises:
        ScorerUnavailableError: spaCy or the model is not installed; the message says how to get them.
    """
    for package in ("spacy", model):
        if importlib.util.find_spec(package) is None:
            raise ScorerUnavailableError(
                f"dependency distance needs a parser, and {package!r} is not installed: run `pip install spacy` and "
                f"`python -m spacy download {model}`, or leave the family `dependency` out"
            )
    pipeline = importlib.import_module("spacy").load(model)

    def parse(text: str) -> list[list[int]]:
        return [[token.head.i - sentence.start for token in sentence] for sentence in pipeline(text).sents]

    return parse


def parser_version(model: str = "en_core_web_sm") -> list[str | None]:
    """Versions of spaCy and of a model of it; None for what is not installed."""
    found: list[str | None] = []
    for package in ("spacy", model):
        try:
            found.append(importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            found.append(None)
    return found


def build(resources: Resources) -> Family:
    """The family; it needs a parser."""
    return Dependency(resources.parse, resources.why("parse", _NO_PARSER))
