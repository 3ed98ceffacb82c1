"""Controls that need no model: the worst a failure can cost, targets shuffled across requests, and the copy."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from steer_core.evaluation.steerability import ZERO, fill_inactive

Floats = NDArray[np.float64]


def worst_error(z0: Floats, z_star: Floats) -> Floats:
    """Distance from each target to the farthest corner of [0, 1]^d: the largest steering error there is.

    Args:
        z0: starts, [n, d].
        z_star: targets, [n, d]; NaN where inactive.
    """
    target = fill_inactive(z0, z_star)
    distance: Floats = np.sqrt((np.maximum(target, 1.0 - target) ** 2).sum(axis=1))
    return distance


def worst_miscalibration(z0: Floats, z_star: Floats) -> Floats:
    """Largest |e.r| / |r|^2 over all outcomes in [0, 1]^d; 0 where nothing was asked.

    e.r is linear in the outcome, so its extremes lie in corners, and each goal can be taken by itself.

    Args:
        z0: starts, [n, d].
        z_star: targets, [n, d]; NaN where inactive.
    """
    target = fill_inactive(z0, z_star)
    r = target - z0
    at_zero, at_one = r * target, r * (target - 1.0)
    largest = np.maximum(at_zero, at_one).sum(axis=1)
    smallest = np.minimum(at_zero, at_one).sum(axis=1)
    square = (r * r).sum(axis=1)
    asked = np.sqrt(square) >= ZERO
    extreme = np.maximum(np.abs(largest), np.abs(smallest))
    ratio: Floats = np.divide(extreme, square, out=np.zeros(len(r)), where=asked)
    return ratio


def permuted_error(z0: Floats, z_star: Floats, z_hat: Floats, *, permutations: int, rng: np.random.Generator) -> Floats:
    """Mean |z*' - zh| of each row when the targets are shuffled across the rows: the chance level of its outcome.

    A row receives another row's targets goal by goal; where those are inactive the row is asked to stay at its own z0.
    A method that reads its request is nearer to its own targets than to those of others.

    Args:
        z0: starts, [n, d].
        z_star: targets, [n, d]; NaN where inactive. All rows of one probe.
        z_hat: reached, [n, d]; a row with a NaN gives NaN.
        permutations: shuffles.
        rng: source of the shuffles.

    Returns:
        Shape [n].

    Raises:
        ValueError: `permutations` is not positive.
    """
    if permutations < 1:
        raise ValueError(f"permutations = {permutations}: the shuffled control needs at least one")
    total = np.zeros(len(z0))
    for _ in range(permutations):
        left = fill_inactive(z0, z_star[rng.permutation(len(z0))]) - z_hat
        total += np.sqrt(np.einsum("nd,nd->n", left, left))
    return total / permutations


def closed_form_of_copy(steerability: pl.DataFrame) -> pl.DataFrame:
    """How far a copy cell is from what it must score: error |r|, miscalibration 1 (0 where |r| = 0), orthogonality 0.

    A deviation says that texts were changed, measured twice with different results, or scored wrongly.

    Args:
        steerability: rows of the `copy` cell; rows without a score are left out.

    Returns:
        Rows of `schemas.ClosedForm`.
    """
    asked = (pl.col("requested") >= ZERO).cast(pl.Float64)
    expected = {
        "error": pl.col("requested"),
        "miscalibration": asked,
        "orthogonality": pl.lit(0.0),
    }
    rows = []
    for measure, value in expected.items():
        deviation = steerability.select((pl.col(measure) - value).abs())[measure].drop_nulls()
        largest = float(deviation.to_numpy().max()) if len(deviation) else 0.0
        rows.append({"measure": measure, "largest_deviation": largest, "n": len(deviation)})
    return pl.DataFrame(rows, schema={"measure": pl.String, "largest_deviation": pl.Float64, "n": pl.Int64})
