"""What the best of k draws comes to, for every k up to n, from one pool of n draws: without bias, without resampling.

With the n candidates of a request ranked from best to worst, place i (counted from 0) is the best of a k-subset drawn
at random with chance C(n - 1 - i, k - 1) / C(n, k): the subset holds it, and its others stand behind it. The mean of
the best over all k-subsets is then a weighted sum (order statistics; for the maximum it is sum over i >= k of
x_(i) C(i - 1, k - 1) / C(n, k), as in the unbiased pass@k of Chen et al. 2021). Whatever ranks, any other figure of
the one that is chosen follows by the same weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steer_core.statistics.clustered import Estimate, clustered_mean

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Pool:
    """The candidates of one request.

    Attributes:
        values: a figure of each candidate that can be chosen, the best candidate first, shape [c].
        n: candidates that were drawn, those that cannot be chosen included; n >= c.
        cluster: its source text.
    """

    values: Floats
    n: int
    cluster: str

    def __post_init__(self) -> None:
        """Look whether the figures are figures, and no more than were drawn.

        Raises:
            ValueError: they are not.
        """
        if len(self.values) > self.n or not np.isfinite(self.values).all():
            raise ValueError(f"{len(self.values)} values of {self.n} candidates: each must be a finite number")


def expected_best(values: Floats, n: int) -> Floats:
    """Mean figure of the best of k, over all k-subsets that hold a candidate that can be chosen, for k = 1 .. n.

    Args:
        values: figures of those that can be chosen, the best first, shape [c] with 1 <= c <= n.
        n: candidates, the n - c that cannot be chosen included.

    Returns:
        shape [n]; at k = 1 the mean of `values`, at k = n the first of them.

    Raises:
        ValueError: there is no value, or there are more than n.
    """
    if not 1 <= len(values) <= n:
        raise ValueError(f"{len(values)} values of {n} candidates: give between 1 and {n}")
    found = np.empty(n)
    for k in range(1, n + 1):
        # whole numbers: C(n, k) leaves the range of floats at n = 1030
        ways = [comb(n - 1 - i, k - 1) for i in range(len(values))]
        every = sum(ways)
        found[k - 1] = sum(w / every * v for w, v in zip(ways, values.tolist(), strict=True))
    return found


def best_of_curve(pools: Sequence[Pool], *, level: float = 0.95) -> list[Estimate]:
    """Mean over requests of `expected_best`, for k = 1 up to the smallest number drawn; clustered by source text.

    A request without a candidate that can be chosen is in no mean: an `Estimate` states how many are (`n`).

    Raises:
        ValueError: no request has a candidate that can be chosen.
    """
    able = [p for p in pools if len(p.values)]
    if not able:
        raise ValueError(f"none of {len(pools)} requests has a candidate that can be chosen")
    most = min(p.n for p in able)
    curves = np.stack([expected_best(p.values, p.n)[:most] for p in able])  # [requests, k]
    clusters: NDArray[Any] = np.array([p.cluster for p in able])
    return [clustered_mean(curves[:, k], clusters, level=level) for k in range(most)]
