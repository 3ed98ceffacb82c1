"""How far an attribute model is right on texts that it was not trained on, with intervals over texts' groups.

R^2 is 1 - squared error / squared spread of what is true, both over the same rows: 0 is what the mean would give. The
table holds, by level, what was predicted against what is true; rows are binned by the predicted level (calibration: of
texts rated 3, is the mean 3?) or by the true one (shrinkage towards the middle shows there).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from schemas.steerlm import AttributeSet
from steer_core.adapters.steerlm.labels import ranges
from steer_core.statistics import Estimate, clustered_mean, clustered_share, expanded_interval, resample_counts
from steer_core.statistics.clustered import degrees_of_freedom

Floats = NDArray[np.float64]
By = Literal["predicted", "true"]


@dataclass(frozen=True)
class LevelRow:
    """One level of an attribute.

    Attributes:
        attribute: name.
        level: predictions that round to it, or texts that have it.
        predicted: mean prediction of these texts, in levels.
        true: mean of their true levels.
        gap: mean of predicted less true, with its interval.
    """

    attribute: str
    level: int
    predicted: Estimate
    true: Estimate
    gap: Estimate


@dataclass(frozen=True)
class AttributeScore:
    """One attribute.

    Attributes:
        attribute: name.
        r_squared: see the top of the file; its value is None where all true levels are equal.
        mae: mean absolute error in levels.
        exact: share of predictions that round to the true level.
        calibration_error: sum over predicted levels of |mean predicted - mean true|, weighted by their share of texts,
            in levels: what ECE is for probabilities. It is above 0 even for a perfect model, by chance.
    """

    attribute: str
    r_squared: Estimate
    mae: Estimate
    exact: Estimate
    calibration_error: float | None


def calibration_table(
    predicted: Floats,
    true: Floats,
    attributes: AttributeSet,
    clusters: NDArray[Any],
    *,
    by: By = "predicted",
    level: float = 0.95,
) -> list[LevelRow]:
    """Predicted against true, level by level.

    Args:
        predicted: in levels, shape [n, attributes].
        true: levels, the same shape; NaN where not known.
        attributes: columns.
        clusters: group of each text, shape [n]: what shares a prompt or a scenario.
        by: how texts are binned.
        level: coverage asked of the intervals.

    Returns:
        A row for each level; one without a text has no values.

    Raises:
        ValueError: shapes differ, or a prediction is no number.
    """
    _check(predicted, true, attributes, clusters)
    bins = _rounded(predicted, attributes) if by == "predicted" else true
    found = []
    for k, attribute in enumerate(attributes.attributes):
        known = ~np.isnan(true[:, k])
        for value in attribute.levels:
            inside = known & (bins[:, k] == value)
            p, t, c = predicted[inside, k], true[inside, k], clusters[inside]
            found.append(
                LevelRow(
                    attribute.name,
                    value,
                    clustered_mean(p, c, level=level),
                    clustered_mean(t, c, level=level),
                    clustered_mean(p - t, c, level=level),
                )
            )
    return found


def attribute_scores(
    predicted: Floats,
    true: Floats,
    attributes: AttributeSet,
    clusters: NDArray[Any],
    *,
    draws: int,
    rng: np.random.Generator,
    level: float = 0.95,
) -> list[AttributeScore]:
    """How good each attribute's predictions are.

    Args:
        predicted: in levels, shape [n, attributes].
        true: levels, the same shape; NaN where not known.
        attributes: columns.
        clusters: group of each text, shape [n].
        draws: resamples of groups, for the interval of R^2.
        rng: source of the draws.
        level: coverage asked of the intervals.

    Raises:
        ValueError: shapes differ, a prediction is no number, or `draws` is not positive.
    """
    if draws < 1:
        raise ValueError(f"draws = {draws}: a bootstrap needs at least one")
    _check(predicted, true, attributes, clusters)
    rounded = _rounded(predicted, attributes)
    found = []
    for k, attribute in enumerate(attributes.attributes):
        known = ~np.isnan(true[:, k])
        p, t, c, r = predicted[known, k], true[known, k], clusters[known], rounded[known, k]
        found.append(
            AttributeScore(
                attribute.name,
                r_squared(p, t, c, draws=draws, rng=rng, level=level),
                clustered_mean(np.abs(p - t), c, level=level),
                clustered_share((r == t).astype(np.float64), c, level=level),
                _calibration_error(p, t, r),
            )
        )
    return found


def r_squared(
    predicted: Floats,
    true: Floats,
    clusters: NDArray[Any],
    *,
    draws: int,
    rng: np.random.Generator,
    level: float = 0.95,
) -> Estimate:
    """R^2 with an interval from a bootstrap of groups; 95% intervals cover .93 to .94 of 1,000 simulated worlds.

    Args:
        predicted: shape [n].
        true: shape [n], no NaN.
        clusters: shape [n].
        draws: resamples.
        rng: source of the draws.
        level: coverage asked of the interval.

    Returns:
        Without a value where the true levels do not differ; without an interval with fewer than two groups.
    """
    n = len(true)
    if n == 0:
        return Estimate(None, None, None, 0, 0)
    labels, owner = np.unique(clusters, return_inverse=True)
    # sums of each group: number, true, true^2, error^2
    measures = (np.ones(n), true, true**2, (predicted - true) ** 2)
    parts: Floats = np.stack([np.bincount(owner, weights=w) for w in measures]).astype(np.float64)
    value = _r_squared(parts.sum(1))
    if not np.isfinite(value):
        return Estimate(None, None, None, n, len(labels))
    if len(labels) < 2:
        return Estimate(float(value), None, None, n, len(labels))
    sampled = _r_squared(parts @ resample_counts(len(labels), draws, rng).T)
    sampled = sampled[np.isfinite(sampled)]
    if not len(sampled):
        return Estimate(float(value), None, None, n, len(labels))
    low, high = expanded_interval(sampled, degrees_of_freedom(parts[0]), level)
    return Estimate(float(value), low, high, n, len(labels))


def _r_squared(sums: Floats) -> Floats:
    """Of sums [4, ...]; NaN where what is true has no spread."""
    n, total, squares, error = sums
    spread = squares - total**2 / n
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(spread > 1e-9 * np.maximum(squares, 1.0), 1.0 - error / spread, np.nan))


def _calibration_error(predicted: Floats, true: Floats, rounded: Floats) -> float | None:
    if not len(true):
        return None
    _, where = np.unique(rounded, return_inverse=True)
    # share of a level times its mean gap is its summed gap over all texts
    return float(np.abs(np.bincount(where, weights=predicted - true)).sum() / len(true))


def _rounded(predicted: Floats, attributes: AttributeSet) -> Floats:
    low, high = ranges(attributes)
    return np.asarray(np.floor(np.clip(predicted, low, high) + 0.5))


def _check(predicted: Floats, true: Floats, attributes: AttributeSet, clusters: NDArray[Any]) -> None:
    shape = (len(clusters), len(attributes))
    if predicted.shape != shape or true.shape != shape:
        raise ValueError(f"shapes {predicted.shape} and {true.shape} for {shape[0]} groups and {shape[1]} attributes")
    if not np.isfinite(predicted).all():
        raise ValueError("a prediction is no finite number: leave the text out, and say so")
