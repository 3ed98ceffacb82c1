"""What activations say of one concept at one place: the input of every estimator, and what an estimator returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.vector_part import Site
from steer_core.tables.errors import SteerworksError
from steer_core.vectors.moments import Doubles, Moments

#: Difference of class means, relative to the mean norm, that single precision cannot tell from none.
INDISTINCT = 1e-6


@dataclass(frozen=True)
class Point:
    """Where activations are read: a 0-based decoder layer and a site in it."""

    layer: int
    site: Site = "residual"


@dataclass(frozen=True)
class Evidence:
    """Activations of one concept at one point, as statistics and, for estimators that need them, as rows.

    Attributes:
        concept: behavior or goal.
        point: where they were read.
        positive, negative: moments of the two classes.
        difference: moments of (positive - negative) over pairs; None for unpaired data.
        positive_rows, negative_rows: the activations, shape [n, d], in pair order where paired; None unless asked for.
        logits: for A/B data, logit(matching letter) - logit(other letter) of each positive row, shape [n].
    """

    concept: str
    point: Point
    positive: Moments
    negative: Moments
    difference: Moments | None = None
    positive_rows: NDArray[np.float32] | None = None
    negative_rows: NDArray[np.float32] | None = None
    logits: NDArray[np.float64] | None = None

    @property
    def pooled(self) -> Moments:
        """Moments of both classes together."""
        return self.positive + self.negative

    @property
    def positive_share(self) -> float:
        """Share of positive examples."""
        return self.positive.n / (self.positive.n + self.negative.n)

    @property
    def residual_norm(self) -> float:
        """Mean L2 norm of all activations read."""
        n = self.positive.n + self.negative.n
        return (self.positive.norms + self.negative.norms) / max(n, 1)

    @property
    def center(self) -> Doubles:
        """Mean of both classes together, shape [d]."""
        return (self.positive.total + self.negative.total) / (self.positive.n + self.negative.n)

    @property
    def distinct(self) -> bool:
        """Whether the class means differ by more than rounding."""
        gap = float(np.linalg.norm(self.positive.mean - self.negative.mean))
        return gap > INDISTINCT * self.residual_norm

    @property
    def mean_difference(self) -> Doubles:
        """Positive mean minus negative mean, shape [d].

        Raises:
            SteerworksError: a class has no examples, or the means are equal but for rounding.
        """
        if not self.positive.n or not self.negative.n:
            raise SteerworksError(
                f"{self.where}: {self.positive.n} positive and {self.negative.n} negative examples; a contrast needs "
                "at least one of each"
            )
        if not self.distinct:
            raise SteerworksError(
                f"{self.where}: positive and negative examples have the same mean activation, so there is no direction "
                "to find; read them where their tokens differ"
            )
        return self.positive.mean - self.negative.mean

    @property
    def pairs(self) -> Moments:
        """Moments of the paired differences.

        Raises:
            SteerworksError: the data are not paired.
        """
        if self.difference is None or not self.difference.n:
            raise SteerworksError(
                f"{self.where}: paired differences are needed, and the examples have no pairs; use an estimator of "
                "class means (mean-difference, leace) or paired data"
            )
        return self.difference

    @property
    def where(self) -> str:
        """Concept and place, for messages."""
        return f"{self.concept!r} at layer {self.point.layer} ({self.point.site})"

    def rows(self) -> tuple[Doubles, NDArray[np.int64]]:
        """All activations, shape [n, d], positives first, and their labels (1, 0), shape [n].

        Raises:
            SteerworksError: the rows were not kept.
        """
        if self.positive_rows is None or self.negative_rows is None:
            raise SteerworksError(f"{self.where}: the activations themselves are needed, and only moments were kept")
        x = np.concatenate([self.positive_rows, self.negative_rows]).astype(np.float64)
        return x, np.repeat(np.array([1, 0]), [len(self.positive_rows), len(self.negative_rows)])


@dataclass(frozen=True)
class Fit:
    """What an estimator found.

    Attributes:
        operator: module of `steer_core.steering.operators` that applies it.
        tensors: name -> array [k, d]; `direction` [1, d] where there is one.
        scalars: further numbers that the operator needs.
        lineage: how it was trained, where it was.
    """

    operator: str
    tensors: Mapping[str, NDArray[np.floating]]
    scalars: Mapping[str, float] = field(default_factory=dict)
    lineage: Mapping[str, Any] = field(default_factory=dict)
