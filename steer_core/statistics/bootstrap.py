"""Medians and spreads with intervals from a bootstrap that resamples source texts, not rows.

Whole texts are drawn with replacement (cluster bootstrap; Davison and Hinkley 1997, section 3.8; Field and Welsh 2007)
and every statistic is taken over the rows of the drawn texts. Means, differences and slopes need no draws: see
`clustered`.

1. A draw is a vector of counts, one a cluster: multinomial, equal chances. No resample is ever written out.
2. The interval of a median takes wider quantiles of the draws than the plain percentile interval, by what t is wider
   than normal and n - 1 narrower than n (expanded percentile interval; Hesterberg 2015, section 5.3); that of a spread
   is t times the standard deviation of the draws. Degrees of freedom as in `clustered`. They cover .94 to .96 of
   medians from 12 clusters on, .94 to .97 of spreads (`make evidence-truth`).
3. Rows whose value is NaN are undefined and left out; a cluster without a defined row is left out with them.
4. Fewer than two clusters carry no information about the spread between texts: the interval is null, the value stays.
5. Nothing defined: the value is null as well.
6. Clusters are taken in sorted order, so the order of the rows changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from steer_core.statistics.clustered import Estimate, check_arguments, clustered_mean, degrees_of_freedom
from steer_core.statistics.quantiles import weighted_quantiles

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Statistic = Literal["mean", "median", "iqr"]

#: Quantiles that a statistic is made of: the difference of the last and the first, or the one there is.
QUANTILES: dict[str, tuple[float, ...]] = {"median": (0.5,), "iqr": (0.25, 0.75)}
#: Largest number of counts held at a time (rows times draws): 8 MB of them, near to what a cache holds.
BLOCK = 1_000_000


def resample_counts(n_clusters: int, draws: int, rng: np.random.Generator) -> Counts:
    """How often each cluster occurs in each draw, shape [draws, n_clusters]; every row sums to `n_clusters`."""
    return rng.multinomial(n_clusters, np.full(n_clusters, 1.0 / n_clusters), size=draws)


def clustered_estimates(
    values: Floats,
    clusters: NDArray[Any],
    statistics: Sequence[Statistic],
    *,
    draws: int,
    rng: np.random.Generator,
    level: float = 0.95,
) -> dict[Statistic, Estimate]:
    """Statistics of a measure with their clustered intervals; the mean without draws.

    Args:
        values: one a row, shape [n]; NaN where undefined.
        clusters: label of each row's cluster, shape [n]; any sortable dtype.
        statistics: which ones; all are taken over the same draws.
        draws: resamples.
        rng: source of the draws.
        level: coverage asked of the interval, in (0, 1).

    Returns:
        One estimate a statistic.

    Raises:
        ValueError: lengths differ, `draws` is not positive or `level` lies outside (0, 1).
    """
    if draws < 1:
        raise ValueError(f"draws = {draws}: a bootstrap needs at least one")
    check_arguments(values, clusters, level)
    found: dict[Statistic, Estimate] = {}
    if "mean" in statistics:
        found["mean"] = clustered_mean(values, clusters, level=level)
    by_rank = [name for name in statistics if name in QUANTILES]
    if by_rank:
        found |= _by_rank(values, clusters, by_rank, draws, rng, level)
    return {name: found[name] for name in statistics}


def _by_rank(
    values: Floats,
    clusters: NDArray[Any],
    statistics: Sequence[Statistic],
    draws: int,
    rng: np.random.Generator,
    level: float,
) -> dict[Statistic, Estimate]:
    defined = ~np.isnan(values)
    kept = values[defined]
    labels, cluster_of = np.unique(clusters[defined], return_inverse=True)
    n, n_clusters = len(kept), len(labels)
    if n == 0:
        return {name: Estimate(None, None, None, 0, 0) for name in statistics}
    points = {name: _point(kept, name) for name in statistics}
    if n_clusters < 2:
        return {name: Estimate(points[name], None, None, n, n_clusters) for name in statistics}
    sampled = _replicates(kept, cluster_of, resample_counts(n_clusters, draws, rng), statistics)
    freedom = degrees_of_freedom(np.bincount(cluster_of).astype(np.float64))
    found: dict[Statistic, Estimate] = {}
    for name in statistics:
        if name == "iqr":
            ends = _spread_interval(points[name], sampled[name], freedom, level)
        else:
            ends = expanded_interval(sampled[name], freedom, level)
        found[name] = Estimate(points[name], *ends, n, n_clusters)
    return found


def expanded_interval(replicates: Floats, freedom: float, level: float = 0.95) -> tuple[float, float]:
    """Expanded percentile interval of bootstrap replicates [draws] over clusters worth `freedom` + 1."""
    from scipy.special import ndtr, stdtrit

    half = np.sqrt((freedom + 1.0) / freedom) * stdtrit(freedom, (1.0 + level) / 2.0)
    low, high = np.quantile(replicates, [ndtr(-half), ndtr(half)])
    return float(low), float(high)


def _spread_interval(point: float, replicates: Floats, freedom: float, level: float) -> tuple[float, float]:
    from scipy.special import stdtrit

    error = float(replicates.std(ddof=1)) if len(replicates) > 1 else 0.0
    width = float(np.sqrt((freedom + 1.0) / freedom) * stdtrit(freedom, (1.0 + level) / 2.0)) * error
    return max(point - width, 0.0), point + width


def _point(values: Floats, statistic: Statistic) -> float:
    quantiles = np.quantile(values, QUANTILES[statistic])
    return float(quantiles[-1] - quantiles[0] if len(quantiles) > 1 else quantiles[0])


def _replicates(
    values: Floats, cluster_of: NDArray[np.intp], counts: Counts, statistics: Sequence[Statistic]
) -> dict[Statistic, Floats]:
    """Each statistic in each draw, shape [draws]."""
    found: dict[Statistic, Floats] = {}
    levels = [q for name in statistics for q in QUANTILES[name]]
    # equal values of one cluster are one column: a lattice of a few values costs little
    distinct, column, how_often = _distinct_cells(values, cluster_of)
    blocks = []
    for part in _blocks(counts, len(distinct)):
        occurs = np.take(part, column, axis=1)  # [draws of the block, distinct]
        occurs *= how_often
        blocks.append(weighted_quantiles(distinct, occurs, levels))
    quantiles = np.concatenate(blocks)
    at = 0
    for name in statistics:
        width = len(QUANTILES[name])
        found[name] = quantiles[:, at + width - 1] - quantiles[:, at] if width > 1 else quantiles[:, at]
        at += width
    return found


def _distinct_cells(values: Floats, cluster_of: NDArray[np.intp]) -> tuple[Floats, NDArray[np.intp], Counts]:
    """Distinct (value, cluster) pairs: their values, their clusters, and how many rows each stands for."""
    order = np.lexsort((cluster_of, values))
    ordered, owner = values[order], cluster_of[order]
    starts = np.flatnonzero(np.concatenate([[True], (ordered[1:] != ordered[:-1]) | (owner[1:] != owner[:-1])]))
    return ordered[starts], owner[starts], np.diff(np.append(starts, len(order)))


def _blocks(counts: Counts, columns: int) -> Iterator[Counts]:
    step = max(1, BLOCK // max(columns, 1))
    for start in range(0, len(counts), step):
        yield counts[start : start + step]
