"""Whether what was asked for more has more: a share of pairs, clustered."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from steer_core.statistics.clustered import Estimate, ratio_interval

Floats = NDArray[np.float64]


def concordance(asked: Floats, measured: Floats, clusters: NDArray[Any], *, level: float = 0.95) -> Estimate:
    """Over pairs of one cluster of which different values were asked, the share in the order that was asked for.

    A pair that measures the same counts half. .5 is what ignores the request; 2 c - 1 is Somers' D of the measured on
    the asked (Somers 1962), within clusters.

    Args:
        asked: shape [n], no NaN.
        measured: shape [n], no NaN.
        clusters: label of each row, shape [n].
        level: coverage asked of the interval.

    Returns:
        `n` counts pairs, `n_clusters` clusters with a pair; the interval is kept inside [0, 1].
    """
    pairs, right = [], []
    by_cluster = np.argsort(clusters, kind="stable")
    for own in np.split(by_cluster, np.flatnonzero(clusters[by_cluster][1:] != clusters[by_cluster][:-1]) + 1):
        a, m = asked[own], measured[own]
        more = a[:, None] > a[None]
        if more.any():
            order = np.sign(m[:, None] - m[None])[more]
            pairs.append(len(order))
            right.append(float((order + 1.0).sum() / 2.0))
    if not pairs:
        return Estimate(None, None, None, 0, 0)
    value, low, high = ratio_interval(np.array(right), np.array(pairs, dtype=np.float64), level)
    if low is not None and high is not None:
        low, high = max(low, 0.0), min(high, 1.0)
    return Estimate(value, low, high, int(sum(pairs)), len(pairs))
