"""Binned steerability: the published lattice of sevenths.

A prompt can ask for seven things per goal: much / plainly / slightly less, no change, slightly / plainly / much more.
The published default (Chang et al. 2025 and the code released with it) measures moves in these seven bins: coordinate
v of a text that starts at z0 falls into bin #{k: v >= z0 + C_k} - 1 for cut points C, bin 3 is "no change", and the
three scores are taken over moves counted in sevenths. So the error lies on sqrt(k) / 7.

1. Default: a bin is decided by the move v - z0 alone, and the last bin is closed (a move of exactly 1 is "much more").
2. `saturation_bug=True` reproduces what the released code does at the upper edge. It clips the cuts to [0, 1], so at
   v = 1 all cuts above 1 collapse onto v and the bin is 7, an eighth one: a text that starts at 1 and stays there
   counts as moved by 4/7. Published tables contain it.
3. All three scores use the cut points given; the released orthogonality mixes binned and continuous moves.
4. With `epsilons=True` the released epsilons are used, else the exact forms of `steerability.decompose`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steer_core.evaluation.steerability import decompose, decompose_published, fill_inactive

Floats = NDArray[np.float64]

#: Published cut points: the strengths that a prompt can name.
CUT_POINTS = (-1.0, -0.5, -0.2, -0.1, 0.1, 0.2, 0.5, 1.0)


@dataclass(frozen=True)
class BinnedScores:
    """Scores of n rows on the lattice, each of shape [n]; NaN where a goal is undefined.

    Attributes:
        error: steering error, in sevenths of a bin count (with the published cut points).
        miscalibration: miscalibration of the binned moves.
        orthogonality: orthogonality of the binned moves, in [0, 1].
    """

    error: Floats
    miscalibration: Floats
    orthogonality: Floats


def bin_of(v: Floats, z0: Floats, cut_points: Sequence[float] = CUT_POINTS, *, saturation_bug: bool = False) -> Floats:
    """Bin of each coordinate, counted from 0.

    Args:
        v: coordinates, any shape; NaN gives NaN.
        z0: starts, same shape.
        cut_points: ascending; k cuts make k - 1 bins.
        saturation_bug: clip the cuts to [0, 1] and leave the last bin open, as released.

    Raises:
        ValueError: fewer than two cut points, or not ascending.
    """
    cuts = np.asarray(cut_points, dtype=np.float64)
    if len(cuts) < 2 or np.any(np.diff(cuts) <= 0):
        raise ValueError(f"cut points {list(cut_points)} must be ascending, at least two")
    edges = z0[..., None] + cuts
    if saturation_bug:
        edges = np.clip(edges, 0.0, 1.0)
    bins = (v[..., None] >= edges).sum(axis=-1) - 1.0
    if not saturation_bug:
        bins = np.minimum(bins, len(cuts) - 2.0)
    return np.where(np.isnan(v), np.nan, bins)


def binned_scores(
    z0: Floats,
    z_star: Floats,
    z_hat: Floats,
    cut_points: Sequence[float] = CUT_POINTS,
    *,
    saturation_bug: bool = False,
    epsilons: bool = False,
) -> BinnedScores:
    """Steering error, miscalibration and orthogonality on the lattice.

    Args:
        z0: starts, [n, d].
        z_star: targets, [n, d]; NaN where inactive.
        z_hat: reached, [n, d]; a row with a NaN scores NaN.
        cut_points: edges of the bins, in units of a move.
        saturation_bug: reproduce the released behaviour at v = 1.
        epsilons: use the released epsilons.

    Raises:
        ValueError: bad cut points.
    """
    n_bins = len(cut_points) - 1
    # the bin of a zero move: 3 with the published cuts
    centre = bin_of(np.zeros(1), np.zeros(1), cut_points)[0]
    target = fill_inactive(z0, z_star)
    at_target = bin_of(target, z0, cut_points, saturation_bug=saturation_bug)
    at_outcome = bin_of(z_hat, z0, cut_points, saturation_bug=saturation_bug)
    # the released code bins the request by its delta, with cuts that are not clipped: e, r, m no longer add up
    requested = bin_of(target - z0, np.zeros_like(z0), cut_points) if saturation_bug else at_target
    e = (at_target - at_outcome) / n_bins
    r = (requested - centre) / n_bins
    m = (at_outcome - centre) / n_bins
    return BinnedScores(*(decompose_published if epsilons else decompose)(e, r, m))
