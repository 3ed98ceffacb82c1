"""Slope within clusters: how much moves per unit asked, everything that a text brings with it held fixed.

A target is start plus move, and moves are drawn to stay in the space, so what is asked of a text depends on where it
starts; where texts start also decides where they tend to drift (regression to the mean). A slope over all rows counts
that drift as obedience. Within a source text the start is the same for all requests: x and y are centered text by text
(a fixed effect a text; Wooldridge 2010, section 10.5), and what ignores the request has slope 0, exactly so where it
answers every request on a text alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steer_core.statistics.clustered import check_arguments, ratio_interval

Floats = NDArray[np.float64]

#: Spread below which a variable counts as constant: rounding, not movement.
CONSTANT = 1e-12


@dataclass(frozen=True)
class SlopeEstimate:
    """A slope with its interval.

    Attributes:
        slope: sum(x y) / sum(x^2), both centered within clusters; None where no cluster has two different x.
        low: lower end of its interval; None with fewer than two clusters.
        high: upper end.
        correlation: Pearson correlation of the centered variables; None where x or y is constant within clusters.
        n: pairs with both defined, in clusters that have two different x.
        n_clusters: those clusters.
    """

    slope: float | None
    low: float | None
    high: float | None
    correlation: float | None
    n: int
    n_clusters: int


def slope_within(x: Floats, y: Floats, clusters: NDArray[Any], *, level: float = 0.95) -> SlopeEstimate:
    """Least-squares slope of y on x within clusters.

    Args:
        x: what was asked, shape [n]; pairs with a NaN are left out.
        y: what moved, shape [n].
        clusters: label of each pair's source text, shape [n].
        level: coverage asked of the interval.

    Raises:
        ValueError: lengths differ, or `level` lies outside (0, 1).
    """
    if len(x) != len(y):
        raise ValueError(f"{len(x)} requested moves with {len(y)} observed moves: pair them by request first")
    check_arguments(x, clusters, level)
    defined = ~np.isnan(x + y)
    if not defined.any():
        return SlopeEstimate(None, None, None, None, 0, 0)
    _, owner = np.unique(clusters[defined], return_inverse=True)
    dx, dy = centered(x[defined], owner), centered(y[defined], owner)
    squares = np.bincount(owner, weights=dx * dx)
    informed = squares > CONSTANT**2
    if not informed.any():
        return SlopeEstimate(None, None, None, None, 0, 0)
    rows = informed[owner]
    products = np.bincount(owner, weights=dx * dy)
    slope, low, high = ratio_interval(products[informed], squares[informed], level)
    return SlopeEstimate(slope, low, high, correlation(dx[rows], dy[rows]), int(rows.sum()), int(informed.sum()))


def centered(values: Floats, owner: NDArray[np.intp]) -> Floats:
    """Values [n] less the mean of their cluster; what is equal throughout a cluster is exactly 0."""
    size = np.bincount(owner)
    # taken from a value of the cluster first, so that equal values cancel to the last digit
    first = values[np.unique(owner, return_index=True)[1]]
    shifted = values - first[owner]
    return np.asarray(shifted - (np.bincount(owner, weights=shifted) / size)[owner])


def correlation(x: Floats, y: Floats) -> float | None:
    """Pearson correlation of two arrays of shape [n]; None where one of them is constant."""
    dx, dy = x - x.mean(), y - y.mean()
    if np.abs(dx).max() < CONSTANT or np.abs(dy).max() < CONSTANT:
        return None
    return float(np.clip((dx @ dy) / np.sqrt((dx @ dx) * (dy @ dy)), -1.0, 1.0))
