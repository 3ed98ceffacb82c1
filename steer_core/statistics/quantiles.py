"""Quantiles of many resamples at once, without ever writing the resamples out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


def weighted_quantiles(values: Floats, counts: Counts, levels: Sequence[float]) -> Floats:
    """Quantiles of samples in which value `i` occurs `counts[b, i]` times.

    Equal to `numpy.quantile` (linear interpolation, definition 7 of Hyndman and Fan 1996) of each repeated sample:
    with N values the quantile q lies at position (N - 1) q of the sorted sample, and the value at an integer position
    is found by a search in the cumulated counts.

    Args:
        values: shape [n], finite.
        counts: how often each value occurs in each sample, shape [samples, n], not negative.
        levels: quantiles wanted, each in [0, 1].

    Returns:
        Shape [samples, len(levels)]; NaN for a sample without values.
    """
    n_samples, n = counts.shape
    quantiles = np.full((n_samples, len(levels)), np.nan)
    if n == 0:
        return quantiles
    ordered = values
    if np.any(values[1:] < values[:-1]):
        order = np.argsort(values, kind="stable")
        ordered, counts = values[order], counts[:, order]
    cumulated = np.cumsum(counts, axis=1)  # [samples, n]
    totals = cumulated[:, -1].copy()
    # one ascending array for all samples, so that one search serves them all
    offsets = np.concatenate([[0], np.cumsum(totals[:-1] + 1)])
    cumulated += offsets[:, None]
    flat = cumulated.ravel()
    first = np.arange(n_samples) * n
    filled = totals > 0
    for column, level in enumerate(levels):
        position = (totals - 1) * level
        below = np.floor(position).astype(np.int64)
        above = np.minimum(below + 1, totals - 1)
        low = ordered[np.clip(np.searchsorted(flat, below + offsets, side="right") - first, 0, n - 1)]
        high = ordered[np.clip(np.searchsorted(flat, above + offsets, side="right") - first, 0, n - 1)]
        quantiles[filled, column] = (low + (position - below) * (high - low))[filled]
    return quantiles
