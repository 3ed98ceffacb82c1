"""Coherence: how close the sentences of a text are to the next one, and to the one after that.

Foltz, Kintsch and Landauer (1998), The measurement of textual coherence with latent semantic analysis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from steer_core.evaluation.profiles.family import Embed, Family, Resources
from steer_core.evaluation.profiles.reading import Reading
from steer_core.evaluation.profiles.value import Missing, Value
from steer_core.tables.errors import SteerworksError

_NO_VECTORS = Missing("no sentence vectors were given (`encoder` of a profile, `Resources.embed`)")
_ZEROS = Missing("no two such sentences have a vector that is not zero")


def coherence(vectors: NDArray[np.floating[Any]], order: int) -> Value:
    """Mean cosine of each sentence with the one `order` further on.

    textdescriptives counts a pair with a zero vector as cosine 0; here it has none and is left out.

    Args:
        vectors: shape [sentences, width].
        order: distance, at least 1.

    Returns:
        Missing where there are too few sentences, or no pair has a cosine.
    """
    if len(vectors) <= order:
        return Missing(f"fewer than {order + 1} sentences")
    lengths = np.linalg.norm(vectors, axis=1)  # [sentences]
    defined = (lengths[:-order] > 0.0) & (lengths[order:] > 0.0)
    if not defined.any():
        return _ZEROS
    products = (vectors[:-order] * vectors[order:]).sum(axis=1)[defined]
    return float(np.clip(products / (lengths[:-order] * lengths[order:])[defined], -1.0, 1.0).mean())


@dataclass(frozen=True)
class Coherence(Family):
    """Coherence of first and second order under given sentence vectors.

    Attributes:
        embed: what gives them; it is asked once a batch, each sentence once.
        why: why there is none.
    """

    embed: Embed | None = None
    why: Missing = _NO_VECTORS
    metrics: ClassVar[Mapping[str, str]] = {
        "first_order_coherence": "mean cosine of sentences i and i + 1",
        "second_order_coherence": "mean cosine of sentences i and i + 2",
    }

    def measure(self, readings: Sequence[Reading]) -> list[tuple[Value, ...]]:
        """Values of each text.

        Raises:
            SteerworksError: the vectors are not one row a sentence, or hold what is no number.
        """
        if self.embed is None:
            return [(self.why, self.why)] * len(readings)
        read = [[] if reading.no_words else reading.sentences for reading in readings]
        row = {s: i for i, s in enumerate(dict.fromkeys(s for sentences in read for s in sentences))}
        vectors = _vectors(self.embed, list(row))
        rows: list[tuple[Value, ...]] = []
        for reading, sentences in zip(readings, read, strict=True):
            own = vectors[[row[s] for s in sentences]]
            missing = reading.no_words
            rows.append((missing, missing) if missing else (coherence(own, 1), coherence(own, 2)))
        return rows


def _vectors(embed: Embed, sentences: Sequence[str]) -> NDArray[np.float64]:
    if not sentences:
        return np.empty((0, 0))
    vectors = np.asarray(embed(sentences), dtype=np.float64)
    if vectors.ndim != 2 or len(vectors) != len(sentences):
        raise SteerworksError(f"`embed` gave shape {vectors.shape} for {len(sentences)} sentences: one row a sentence")
    if bad := int((~np.isfinite(vectors).all(axis=1)).sum()):
        raise SteerworksError(f"`embed` gave {bad} of {len(sentences)} sentences a vector with NaN or infinity")
    return vectors


def build(resources: Resources) -> Family:
    """The family; it needs sentence vectors."""
    return Coherence(resources.embed, resources.why("embed", _NO_VECTORS))
