"""Percentile bootstrap that resamples source texts, not rows.

Requests on one text share its style and its difficulty, so their scores are no independent draws: 64 texts with 32
requests each are nearer to 64 observations than to 2048. Whole texts are drawn with replacement (cluster bootstrap;
Davison and Hinkley 1997, section 3.8; Field and Welsh 2007) and every statistic is taken over the rows of the drawn
texts.

1. A draw is a vector of counts, one a cluster: multinomial, equal chances. No resample is ever written out.
2. Rows whose value is NaN are undefined and left out; a cluster without a defined row is left out with them.
3. Fewer than two clusters carry no information about the spread between texts: the interval is null, the value stays.
4. Nothing defined: the value is null as well.
5. Clusters are taken in sorted order, so the order of the rows changes nothing.

Percentile intervals are a little too narrow with few texts (fewer than about 15), and have no width where every row has
the same value: a rate of 0 comes with the interval 0 to 0, which says nothing about rare failures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from steer_core.statistics.quantiles import weighted_quantiles

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Statistic = Literal["mean", "median", "iqr"]

#: Quantiles that a statistic is made of: the difference of the last and the first, or the one there is.
QUANTILES: dict[str, tuple[float, ...]] = {"median": (0.5,), "iqr": (0.25, 0.75)}
#: Largest number of counts held at a time (rows times draws): 8 MB of them, near to what a cache holds.
BLOCK = 1_000_000


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval.

    Attributes:
        value: the statistic over all defined rows; None where there is none.
        low: lower end of the interval; None with fewer than two clusters.
        high: upper end.
        n: defined rows.
        n_clusters: clusters with a defined row, the real sample size.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    n_clusters: int


def resample_counts(n_clusters: int, draws: int, rng: np.random.Generator) -> Counts:
    """How often each cluster occurs in each draw, shape [draws, n_clusters]; every row sums to `n_clusters`."""
    return rng.multinomial(n_clusters, np.full(n_clusters, 1.0 / n_clusters), size=draws)


def clustered_bootstrap(
    values: Floats,
    clusters: NDArray[Any],
    statistics: Sequence[Statistic],
    *,
    draws: int,
    rng: np.random.Generator,
    level: float = 0.95,
) -> dict[Statistic, Estimate]:
    """Statistics of a measure with percentile intervals, clustered.

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
    check_arguments(values, clusters, draws, level)
    defined = ~np.isnan(values)
    kept = values[defined]
    labels, cluster_of = np.unique(clusters[defined], return_inverse=True)
    n, n_clusters = len(kept), len(labels)
    if n == 0:
        return {name: Estimate(None, None, None, 0, 0) for name in statistics}
    points = {name: _point(kept, name) for name in statistics}
    if n_clusters < 2:
        return {name: Estimate(points[name], None, None, n, n_clusters) for name in statistics}
    counts = resample_counts(n_clusters, draws, rng)
    sampled = _replicates(kept, cluster_of, counts, statistics)
    return {name: Estimate(points[name], *interval(sampled[name], level), n, n_clusters) for name in statistics}


def interval(replicates: Floats, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of bootstrap replicates, shape [draws]."""
    low, high = np.quantile(replicates, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return float(low), float(high)


def check_arguments(values: Floats, clusters: NDArray[Any], draws: int, level: float) -> None:
    """What every bootstrap asks of its arguments.

    Raises:
        ValueError: lengths differ, `draws` is not positive or `level` lies outside (0, 1).
    """
    if len(values) != len(clusters):
        raise ValueError(f"{len(values)} values with {len(clusters)} cluster labels: pass one label a value")
    if draws < 1:
        raise ValueError(f"draws = {draws}: a bootstrap needs at least one")
    if not 0.0 < level < 1.0:
        raise ValueError(f"level = {level}: the coverage of an interval lies between 0 and 1, e.g. 0.95")


def _point(values: Floats, statistic: Statistic) -> float:
    if statistic == "mean":
        return float(values.mean())
    quantiles = np.quantile(values, QUANTILES[statistic])
    return float(quantiles[-1] - quantiles[0] if len(quantiles) > 1 else quantiles[0])


def _replicates(
    values: Floats, cluster_of: NDArray[np.intp], counts: Counts, statistics: Sequence[Statistic]
) -> dict[Statistic, Floats]:
    """Each statistic in each draw, shape [draws]."""
    found: dict[Statistic, Floats] = {}
    if "mean" in statistics:
        weights = counts.astype(np.float64)
        sums = weights @ np.bincount(cluster_of, weights=values)
        found["mean"] = sums / (weights @ np.bincount(cluster_of).astype(np.float64))
    by_rank = [name for name in statistics if name in QUANTILES]
    if by_rank:
        levels = [q for name in by_rank for q in QUANTILES[name]]
        # equal values of one cluster are one column: a lattice of a few values costs little
        distinct, column, how_often = _distinct_cells(values, cluster_of)
        blocks = []
        for part in _blocks(counts, len(distinct)):
            occurs = np.take(part, column, axis=1)  # [draws of the block, distinct]
            occurs *= how_often
            blocks.append(weighted_quantiles(distinct, occurs, levels))
        quantiles = np.concatenate(blocks)
        at = 0
        for name in by_rank:
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
