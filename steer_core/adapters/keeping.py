"""Which of a group's completions are trained on, where more were drawn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def extremes(rewards: Floats, n: int) -> list[int]:
    """Places of the n / 2 best and n / 2 worst by reward (the best first where n is odd); unscorable ones last.

    Args:
        rewards: of a group, shape [g]; NaN: unscorable.
        n: how many are kept.
    """
    order = [int(i) for i in np.argsort(-rewards, kind="stable")]
    scored = [i for i in order if not np.isnan(rewards[i])]
    if len(scored) <= n:
        return sorted([*scored, *(i for i in order if np.isnan(rewards[i]))][:n])
    top = (n + 1) // 2
    return sorted([*scored[:top], *scored[len(scored) - (n - top) :]])


def pareto(rewards: Floats, n: int) -> list[int]:
    """Places of the first n by Pareto front over several rewards; within a front by their sum, unscorable ones last.

    Args:
        rewards: shape [g, k]; a row with a NaN is unscorable.
        n: how many are kept.
    """
    scored = ~np.isnan(rewards).any(axis=1)
    rank = np.full(len(rewards), len(rewards))
    left = np.flatnonzero(scored)
    front = 0
    while len(left):
        own = rewards[left]
        as_good = (own[:, None] >= own[None]).all(axis=2)
        better = (own[:, None] > own[None]).any(axis=2)
        beaten = (as_good & better).any(axis=0)
        rank[left[~beaten]] = front
        left, front = left[beaten], front + 1
    total = np.where(scored, np.nan_to_num(rewards).sum(axis=1), -np.inf)
    order = np.lexsort((np.arange(len(rewards)), -total, rank))
    return sorted(int(i) for i in order[:n])
