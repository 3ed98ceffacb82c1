"""What was asked for against what was measured, attribute by attribute, and what one drags along of another.

Rows are answers: levels asked for, levels measured on what came back, and the prompt that it answers. Prompts are the
sample, so intervals are clustered by prompt.

* MAE: |asked - measured| in levels.
* Spearman: correlation of ranks over all answers.
* Concordance: pairs of answers to one prompt that are in the order that was asked for (`statistics.concordance`).
* Cross-talk: the matrix of slopes, of what is measured of attribute j on what is asked of attribute i, all asked
  attributes in one regression (so that requests that go together are not taken for cross-talk), in shares of the ranges
  of levels. The ideal is the identity; what stands beside its diagonal is dragged along.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.steerlm import AttributeSet
from steer_core.adapters.steerlm.labels import ranges
from steer_core.statistics import (
    Estimate,
    clustered_mean,
    concordance,
    expanded_interval,
    ratio_interval,
    resample_counts,
)
from steer_core.statistics.clustered import degrees_of_freedom
from steer_core.statistics.slope import centered

Floats = NDArray[np.float64]

#: A request whose spread, apart from the other requests, is below this share of its own has no slope of its own.
COLLINEAR = 1e-6
#: Numbers of a block of resampled ranks.
BLOCK = 2_000_000


@dataclass(frozen=True)
class AttributeFidelity:
    """One attribute.

    Attributes:
        attribute: name.
        mae: in levels.
        spearman: in [-1, 1]; without a value where nothing differs.
        concordance: in [0, 1]; without a value where no prompt was asked for different levels.
    """

    attribute: str
    mae: Estimate
    spearman: Estimate
    concordance: Estimate


@dataclass(frozen=True)
class Slope:
    """An entry of the cross-talk matrix.

    Attributes:
        asked: attribute whose request moves.
        measured: attribute that is looked at.
        slope: in shares of the ranges of levels; without a value where the request does not move by itself.
    """

    asked: str
    measured: str
    slope: Estimate


@dataclass(frozen=True)
class Fidelity:
    """All of it.

    Attributes:
        attributes: one each, in order.
        cross_talk: row by row of the matrix: asked, then measured.
        left_out: answers that the matrix leaves out since a request or a measure of theirs is not known.
    """

    attributes: tuple[AttributeFidelity, ...]
    cross_talk: tuple[Slope, ...]
    left_out: int


def fidelity(
    asked: Floats,
    measured: Floats,
    attributes: AttributeSet,
    prompts: NDArray[Any],
    *,
    draws: int,
    rng: np.random.Generator,
    level: float = 0.95,
    within: bool = True,
) -> Fidelity:
    """Measure how far requests were met.

    Args:
        asked: levels, shape [n, attributes]; NaN where an attribute was not asked for.
        measured: levels or predictions, the same shape; NaN where an answer could not be measured. An attribute that
            was never asked for has columns in the matrix, and no row.
        attributes: columns.
        prompts: label of the prompt of each answer, shape [n].
        draws: resamples of prompts, for Spearman's interval.
        rng: source of the draws.
        level: coverage asked of the intervals.
        within: slopes within prompts, what a prompt brings with it held fixed; False: over all answers, for data in
            which each prompt was asked once.

    Raises:
        ValueError: shapes differ, there is no answer, or `draws` is not positive.
    """
    shape = (len(prompts), len(attributes))
    if asked.shape != shape or measured.shape != shape or not len(prompts):
        raise ValueError(f"shapes {asked.shape} and {measured.shape} for {shape[0]} prompts and {shape[1]} attributes")
    if draws < 1:
        raise ValueError(f"draws = {draws}: a bootstrap needs at least one")
    found = []
    for k, name in enumerate(attributes.names):
        a, m = asked[:, k], measured[:, k]
        known = ~np.isnan(a + m)
        found.append(
            AttributeFidelity(
                name,
                clustered_mean(np.abs(a - m), prompts, level=level),
                spearman(a[known], m[known], prompts[known], draws=draws, rng=rng, level=level),
                concordance(a[known], m[known], prompts[known], level=level),
            )
        )
    slopes, left_out = cross_talk(asked, measured, attributes, prompts, level=level, within=within)
    return Fidelity(tuple(found), tuple(slopes), left_out)


def spearman(
    asked: Floats,
    measured: Floats,
    prompts: NDArray[Any],
    *,
    draws: int,
    rng: np.random.Generator,
    level: float = 0.95,
) -> Estimate:
    """Spearman's correlation, ranks of ties averaged, with an interval from a bootstrap of prompts.

    Args:
        asked: shape [n], no NaN.
        measured: shape [n], no NaN.
        prompts: shape [n].
        draws: resamples; each takes its own ranks.
        rng: source of the draws.
        level: coverage asked of the interval.

    Returns:
        Without a value where one of the two does not differ; without an interval with fewer than two prompts.
    """
    n = len(asked)
    if n == 0:
        return Estimate(None, None, None, 0, 0)
    labels, owner = np.unique(prompts, return_inverse=True)
    value = float(_weighted_spearman(asked, measured, np.ones((1, n)))[0])
    if not np.isfinite(value):
        return Estimate(None, None, None, n, len(labels))
    if len(labels) < 2:
        return Estimate(value, None, None, n, len(labels))
    counts = resample_counts(len(labels), draws, rng)
    step = max(1, BLOCK // n)
    parts = [_weighted_spearman(asked, measured, counts[k : k + step][:, owner]) for k in range(0, draws, step)]
    sampled = np.concatenate(parts)
    sampled = sampled[np.isfinite(sampled)]
    if not len(sampled):
        return Estimate(value, None, None, n, len(labels))
    low, high = expanded_interval(sampled, degrees_of_freedom(np.bincount(owner).astype(np.float64)), level)
    return Estimate(value, low, high, n, len(labels))


def cross_talk(
    asked: Floats,
    measured: Floats,
    attributes: AttributeSet,
    prompts: NDArray[Any],
    *,
    level: float = 0.95,
    within: bool = True,
) -> tuple[list[Slope], int]:
    """The matrix of slopes, and how many answers it leaves out; see the top of the file.

    Each slope is taken from what the other requests leave of request and measure (Frisch and Waugh 1933), and its
    interval from sums over prompts.

    Args:
        asked: shape [n, attributes]; NaN where not asked for.
        measured: shape [n, attributes]; NaN where not known.
        attributes: columns.
        prompts: shape [n].
        level: coverage asked of the intervals.
        within: see `fidelity`.
    """
    low, high = ranges(attributes)
    ever = np.flatnonzero(~np.isnan(asked).all(0))
    known = ~np.isnan(asked[:, ever]).any(1) & ~np.isnan(measured).any(1)
    left_out = int((~known).sum())
    if not known.any() or not len(ever):
        return [], left_out
    _, owner = np.unique(prompts[known], return_inverse=True)
    block = owner if within else np.zeros(len(owner), dtype=np.intp)
    x = np.stack([centered(asked[known, i] / (high - low)[i], block) for i in ever], axis=1)
    y = np.stack([centered(measured[known, j] / (high - low)[j], block) for j in range(len(attributes))], axis=1)
    found = []
    for at, i in enumerate(ever):
        own = x[:, at]
        others = np.delete(x, at, axis=1)
        left, moved = _rest(own, others), _rest(y, others)
        by_itself = float(left @ left) > COLLINEAR * max(float(own @ own), 1e-12)
        for j, name in enumerate(attributes.names):
            slope = _slope(left, moved[:, j], owner, level) if by_itself else Estimate(None, None, None, 0, 0)
            found.append(Slope(attributes.names[i], name, slope))
    return found, left_out


def _rest(values: Floats, others: Floats) -> Floats:
    """What a least-squares fit on others [n, k] leaves of values [n] or [n, m]."""
    if not others.shape[1]:
        return values
    return np.asarray(values - others @ np.linalg.lstsq(others, values, rcond=None)[0])


def _slope(x: Floats, y: Floats, owner: NDArray[np.intp], level: float) -> Estimate:
    squares = np.bincount(owner, weights=x * x)
    informed = squares > 1e-12 * squares.max()
    products = np.bincount(owner, weights=x * y)
    value, low, high = ratio_interval(products[informed], squares[informed], level)
    return Estimate(value, low, high, int(informed[owner].sum()), int(informed.sum()))


def _weighted_spearman(x: Floats, y: Floats, weights: NDArray[Any]) -> Floats:
    """Correlation of mid-ranks under weights [draws, n], shape [draws]; NaN where one does not differ."""
    rx, ry = _mid_ranks(x, weights), _mid_ranks(y, weights)
    total = weights.sum(1, keepdims=True)
    dx = rx - (weights * rx).sum(1, keepdims=True) / total
    dy = ry - (weights * ry).sum(1, keepdims=True) / total
    spread = (weights * dx * dx).sum(1) * (weights * dy * dy).sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(spread > 1e-9, (weights * dx * dy).sum(1) / np.sqrt(spread), np.nan))


def _mid_ranks(values: Floats, weights: NDArray[Any]) -> Floats:
    """Rank of each value among all, each counted by its weight and ties averaged, shape [draws, n]."""
    distinct, where = np.unique(values, return_inverse=True)
    order = np.argsort(where, kind="stable")
    starts = np.searchsorted(where[order], np.arange(len(distinct)))
    held = np.add.reduceat(weights[:, order].astype(np.float64), starts, axis=1)  # [draws, distinct]
    return np.asarray((np.cumsum(held, axis=1) - held / 2.0)[:, where])
