"""Many paired comparisons at once: p-values by exchanging the two sides, and their correction for being many."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Signs held at a time: 32 MB of them.
BLOCK = 4_000_000
#: Share of the largest sum below which two sums are equal up to rounding.
ROUNDING = 1e-9


def exchange_p(differences: Floats, *, draws: int, rng: np.random.Generator) -> Floats:
    """Two-sided p of each column's mean by exchanging the two sides within rows, at random.

    Where the two sides are draws of one distribution, exchanging them within an item changes nothing that matters, so p
    is at most a in a share a of worlds or less, whatever the distribution: discrete, skewed, or mostly ties. All
    columns get the same exchanges. p = (1 + exchanges whose sum is as far from 0) / (1 + draws) (Phipson and Smyth
    2010); from few rows it cannot be small: g rows that are not 0 give 2^(1 - g) at the least.

    Args:
        differences: one side less the other, shape [items, columns]; a NaN is left out of its column.
        draws: random exchanges.
        rng: their source.

    Returns:
        Shape [columns]; NaN for a column without a number, 1 where all are 0.

    Raises:
        ValueError: `draws` is not positive.
    """
    if draws < 1:
        raise ValueError(f"draws = {draws}: a rank needs at least one")
    known = np.isfinite(differences)
    filled = np.where(known, differences, 0.0)
    observed = np.abs(filled.sum(axis=0))
    as_far = np.zeros(filled.shape[1], dtype=np.int64)
    tolerance = ROUNDING * np.abs(filled).sum(axis=0)
    step = max(1, BLOCK // max(len(filled), 1))
    for start in range(0, draws, step):
        flips = rng.integers(0, 2, size=(min(step, draws - start), len(filled)), dtype=np.int8)
        sums = np.abs((2.0 * flips - 1.0) @ filled)  # [draws of the block, columns]
        as_far += (sums >= observed - tolerance).sum(axis=0)
    return np.where(known.any(axis=0), (1.0 + as_far) / (1.0 + draws), np.nan)


def holm(p: Floats) -> Floats:
    """p-values corrected so that one false finding among all has at most the level's chance (Holm 1979).

    Holds however the tests hang together.

    Args:
        p: shape [tests]; a NaN is no test.

    Returns:
        Shape [tests]; NaN where `p` is.
    """
    order = np.argsort(p)[: int(np.isfinite(p).sum())]  # NaN sorts last
    adjusted = np.full(len(p), np.nan)
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return adjusted
