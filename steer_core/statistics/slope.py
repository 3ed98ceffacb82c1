"""Least-squares slope through the origin: how much moves per unit asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steer_core.statistics.bootstrap import check_arguments, interval, resample_counts

Floats = NDArray[np.float64]

#: Spread below which a variable counts as constant: rounding, not movement.
CONSTANT = 1e-12


@dataclass(frozen=True)
class SlopeEstimate:
    """A slope with its interval.

    Attributes:
        slope: sum(x y) / sum(x^2); None where every x is 0 or no pair is defined.
        low: lower end of its interval; None with fewer than two clusters.
        high: upper end.
        correlation: Pearson correlation; None where x or y is constant.
        n: pairs with both defined.
        n_clusters: clusters with a pair.
    """

    slope: float | None
    low: float | None
    high: float | None
    correlation: float | None
    n: int
    n_clusters: int


def slope_through_origin(
    x: Floats,
    y: Floats,
    clusters: NDArray[Any],
    *,
    draws: int,
    rng: np.random.Generator,
    level: float = 0.95,
) -> SlopeEstimate:
    """Slope of y on x without intercept: nothing asked is nothing expected to move.

    Args:
        x: what was asked, shape [n]; pairs with a NaN are left out.
        y: what moved, shape [n].
        clusters: label of each pair's source text, shape [n].
        draws: bootstrap resamples; draws in which every x is 0 are left out of the interval.
        rng: source of the draws.
        level: coverage asked of the interval.

    Raises:
        ValueError: lengths differ, `draws` is not positive or `level` lies outside (0, 1).
    """
    if len(x) != len(y):
        raise ValueError(f"{len(x)} requested moves with {len(y)} observed moves: pair them by request first")
    check_arguments(x, clusters, draws, level)
    defined = ~np.isnan(x + y)
    x, y = x[defined], y[defined]
    labels, cluster_of = np.unique(clusters[defined], return_inverse=True)
    n, n_clusters = len(x), len(labels)
    squares = float(x @ x)
    if n == 0 or squares == 0.0:
        return SlopeEstimate(None, None, None, None, n, n_clusters)
    low = high = None
    if n_clusters >= 2:
        counts = resample_counts(n_clusters, draws, rng).astype(np.float64)
        products = counts @ np.bincount(cluster_of, weights=x * y)
        spread = counts @ np.bincount(cluster_of, weights=x * x)
        low, high = interval(products[spread > 0.0] / spread[spread > 0.0], level)
    return SlopeEstimate(float(x @ y) / squares, low, high, correlation(x, y), n, n_clusters)


def correlation(x: Floats, y: Floats) -> float | None:
    """Pearson correlation of two arrays of shape [n]; None where one of them is constant."""
    dx, dy = x - x.mean(), y - y.mean()
    if np.abs(dx).max() < CONSTANT or np.abs(dy).max() < CONSTANT:
        return None
    return float(np.clip((dx @ dy) / np.sqrt((dx @ dx) * (dy @ dy)), -1.0, 1.0))
