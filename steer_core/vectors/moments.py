"""Streaming sufficient statistics: count, sum and sum of outer products in float64. Memory does not grow with rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]


@dataclass
class Moments:
    """Moments of rows of width d.

    Attributes:
        width: d.
        second: whether the sum of outer products is kept too (d x d numbers).
        n: rows seen.
        total: sum of the rows, shape [d].
        outer: sum of their outer products, shape [d, d]; None unless `second`.
        norms: sum of the rows' L2 norms.
    """

    width: int
    second: bool = False
    n: int = 0
    total: Doubles = field(default_factory=lambda: np.zeros(0))
    outer: Doubles | None = None
    norms: float = 0.0

    def __post_init__(self) -> None:
        if not self.total.size:
            self.total = np.zeros(self.width)
        if self.second and self.outer is None:
            self.outer = np.zeros((self.width, self.width))

    def update(self, rows: NDArray[Any]) -> None:
        """Add rows, shape [n, d].

        Raises:
            ValueError: another width, or a value that is not finite.
        """
        x = np.asarray(rows, dtype=np.float64)
        if x.ndim != 2 or x.shape[1] != self.width:
            raise ValueError(f"rows have shape {x.shape}; expected [n, {self.width}]")
        if not np.isfinite(x).all():
            raise ValueError("an activation is NaN or infinite: the model overflows at this dtype; try float32")
        self.n += len(x)
        self.total += x.sum(axis=0)
        self.norms += float(np.linalg.norm(x, axis=1).sum())
        if self.outer is not None:
            self.outer += x.T @ x

    def __add__(self, other: Moments) -> Moments:
        """Moments of the rows of both."""
        both = self.second and other.second
        return Moments(
            self.width,
            both,
            self.n + other.n,
            self.total + other.total,
            self.outer + other.outer if both and self.outer is not None and other.outer is not None else None,
            self.norms + other.norms,
        )

    @property
    def mean(self) -> Doubles:
        """Mean row, shape [d].

        Raises:
            ValueError: no rows.
        """
        if not self.n:
            raise ValueError("no activations: there is no mean")
        return self.total / self.n

    @property
    def mean_norm(self) -> float:
        """Mean L2 norm of the rows."""
        return self.norms / max(self.n, 1)

    def covariance(self, ddof: int = 1) -> Doubles:
        """Covariance, shape [d, d].

        Raises:
            ValueError: second moments were not kept, or there are too few rows.
        """
        if self.outer is None:
            raise ValueError("second moments were not kept: collect with `second=True`")
        if self.n <= ddof:
            raise ValueError(f"{self.n} activations are too few for a covariance")
        return (self.outer - np.outer(self.total, self.total) / self.n) / (self.n - ddof)
