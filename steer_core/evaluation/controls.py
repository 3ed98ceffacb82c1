"""Controls that need no model: the worst a failure can cost, requests exchanged within a text, and the copy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from steer_core.evaluation.steerability import ZERO, fill_inactive

Floats = NDArray[np.float64]

#: Sums of distances that differ by less are equal: rounding.
TIE = 1e-12


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


def permuted_error(z0: Floats, z_star: Floats, z_hat: Floats, texts: NDArray[Any]) -> Floats:
    """Mean |z*' - zh| of each row over all requests on its source text: the chance level of its outcome.

    Targets are start plus move, so those of another text tell something of that text: only requests on the same text
    are exchangeable for a method that does not read them. Its expected difference to `error` is 0, and exactly 0
    where every request on a text gets the same answer. No draws: it is what shuffles within the text give on average,
    a row's own request included.

    Args:
        z0: starts, [n, d]; equal within a text.
        z_star: targets, [n, d]; NaN where inactive. All rows of one probe.
        z_hat: reached, [n, d]; a row with a NaN gives NaN, and lends its targets to no other: which requests fail may
            depend on what they ask.
        texts: source text of each row, [n].

    Returns:
        Shape [n]; NaN where no other request on the text has an outcome: there is nothing to exchange.
    """
    found = np.full(len(z0), np.nan)
    for rows, distance in exchanges(z0, z_star, z_hat, texts):
        if len(rows) > 1:
            found[rows] = distance.mean(axis=1)
    return found


def exchanges(
    z0: Floats, z_star: Floats, z_hat: Floats, texts: NDArray[Any]
) -> Iterator[tuple[NDArray[np.intp], Floats]]:
    """Text by text: its rows with an outcome [m], and the distances [m, m] of each outcome (row) to each target."""
    target = fill_inactive(z0, z_star)
    complete = np.flatnonzero(~np.isnan(z_hat).any(axis=1))
    order = complete[np.argsort(texts[complete], kind="stable")]
    for rows in np.split(order, np.flatnonzero(texts[order][1:] != texts[order][:-1]) + 1):
        if len(rows):
            left = target[rows][None, :, :] - z_hat[rows][:, None, :]  # [outcome, target, goal]
            yield rows, np.sqrt(np.einsum("mnd,mnd->mn", left, left))


def permutation_p(
    z0: Floats, z_star: Floats, z_hat: Floats, texts: NDArray[Any], *, permutations: int, rng: np.random.Generator
) -> float | None:
    """How often requests shuffled within their source texts fit the outcomes as well as the real ones: a rank p.

    (1 + shuffles with a mean error not above the real one) / (1 + shuffles), one-sided (Phipson and Smyth 2010). Exact
    for any request-blind method, whatever its outcomes are distributed like, however few texts there are; 1 where every
    request on a text gets the same answer.

    Args:
        z0: starts, [n, d].
        z_star: targets, [n, d]; NaN where inactive.
        z_hat: reached, [n, d]; rows with a NaN are left out.
        texts: source text of each row, [n].
        permutations: shuffles.
        rng: source of the shuffles.

    Returns:
        None where no text has two requests with an outcome: there is nothing to exchange.

    Raises:
        ValueError: `permutations` is not positive.
    """
    if permutations < 1:
        raise ValueError(f"permutations = {permutations}: the shuffled control needs at least one")
    own, total, exchanged = 0.0, np.zeros(permutations), False
    for rows, distance in exchanges(z0, z_star, z_hat, texts):
        if len(rows) > 1:
            shuffled = rng.permuted(np.tile(np.arange(len(rows)), (permutations, 1)), axis=1)  # [permutations, m]
            own += float(np.trace(distance))
            total += distance[np.arange(len(rows)), shuffled].sum(axis=1)
            exchanged = True
    if not exchanged:
        return None
    # equal up to rounding is equal
    as_good = int((total <= own * (1.0 + TIE) + TIE).sum())
    return (1 + as_good) / (1 + permutations)


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
