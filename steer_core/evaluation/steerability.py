"""Steerability of one rewrite: what was asked, what moved, what is left.

Symbols, all rows of shape [n, d]: start z0, target z*, reached zh in [0, 1]^d; r = z* - z0 the requested move,
m = zh - z0 the move made, e = z* - zh what is left, so that m = r - e. A goal that is not asked for has a NaN target
and stays where it is: z* := z0.

Second metric (Chang et al. 2025, arXiv 2505.23816, section 3): lower is better.

* steering error |e|
* miscalibration |e.r| / |r|^2: over- or undershoot along the request, 1 for a text that did not move
* orthogonality |m - (m.r / r.r) r| / |m|: share of the move made that lies off the request

First metric (Chang et al. 2024, workshop paper): sensitivity |m| / |r|, directionality cos(m, r), and their product,
the steerability score (m.r) / |r|^2, best at 1.

1. The default is exact. Lengths below `ZERO` count as 0: with r = 0 miscalibration is 0 and orthogonality is 1 if
   anything moved, else 0; with m = 0 orthogonality is 0. So `copy` scores |r|, 1, 0 to the last digit.
2. `published_scores` is the same with the epsilons of the authors' code (1e-8 and 1e-4), under which a copied text has
   an orthogonality of about 1e-4 / |r|^2; use it only to reproduce a published number.
3. A row with an undefined (NaN) goal in zh has no position, hence no score: NaN in every column.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Lengths below this count as zero: rounding of coordinates of order 1.
ZERO = 1e-12


@dataclass(frozen=True)
class Moves:
    """Requested and made moves of n rows.

    Attributes:
        r: requested, [n, d]; 0 on goals that were not asked for.
        m: made, [n, d]; NaN where the goal is undefined for the outcome.
        e: left, [n, d].
    """

    r: Floats
    m: Floats
    e: Floats


@dataclass(frozen=True)
class Scores:
    """Scores of n rows, each of shape [n]; NaN where undefined.

    Attributes:
        requested: |r|.
        moved: |m|.
        error: |e|.
        miscalibration: |e.r| / |r|^2.
        orthogonality: off-axis share of the move made, in [0, 1].
        sensitivity: |m| / |r|; NaN where nothing was asked.
        directionality: cos(m, r); NaN where r or m is 0.
        score: (m.r) / |r|^2; NaN where nothing was asked.
    """

    requested: Floats
    moved: Floats
    error: Floats
    miscalibration: Floats
    orthogonality: Floats
    sensitivity: Floats
    directionality: Floats
    score: Floats


def fill_inactive(z0: Floats, z_star: Floats) -> Floats:
    """Targets with every inactive goal (NaN) at its start, shape [n, d]."""
    return np.where(np.isnan(z_star), z0, z_star)


def moves(z0: Floats, z_star: Floats, z_hat: Floats) -> Moves:
    """Moves of n rows.

    Args:
        z0: starts, [n, d].
        z_star: targets, [n, d]; NaN where inactive.
        z_hat: reached, [n, d]; NaN where undefined.

    Raises:
        ValueError: the three shapes differ.
    """
    if not z0.shape == z_star.shape == z_hat.shape:
        raise ValueError(
            f"starts {z0.shape}, targets {z_star.shape} and outcomes {z_hat.shape} must have one shape [rows, goals]"
        )
    target = fill_inactive(z0, z_star)
    return Moves(target - z0, z_hat - z0, target - z_hat)


def decompose(e: Floats, r: Floats, m: Floats) -> tuple[Floats, Floats, Floats]:
    """Exact steering error, miscalibration and orthogonality of moves of shape [n, d]; each result is [n]."""
    error, asked, moved = _length(e), _length(r), _length(m)
    square = _dot(r, r)
    is_asked, is_moved = asked >= ZERO, moved >= ZERO
    along = _ratio(_dot(e, r), square, is_asked)
    miscalibration = np.where(is_asked, np.abs(along), 0.0)
    # off-axis parts of e and m are equal up to sign; m's is the better conditioned where little moved
    off_axis = _length(m - _ratio(_dot(m, r), square, is_asked, 0.0)[:, None] * r)
    share = np.clip(_ratio(off_axis, moved, is_moved, 0.0), 0.0, 1.0)
    orthogonality = np.where(is_asked, share, is_moved.astype(np.float64))
    return _undefined_like(error, error, miscalibration, orthogonality)


def decompose_published(e: Floats, r: Floats, m: Floats) -> tuple[Floats, Floats, Floats]:
    """`decompose` with the epsilons of the code that Chang et al. (2025) released, for published numbers only.

    M = |e.r| / (|r| + 1e-8)^2 and O = clip(|e - (e.r / (r.r + 1e-8)) r| / (|m| + 1e-4 (|r| + 1e-8)), 0, 1).
    """
    error, asked, moved = _length(e), _length(r), _length(m)
    miscalibration = np.abs(_dot(e, r)) / (asked + 1e-8) ** 2
    off_axis = _length(e - (_dot(e, r) / (_dot(r, r) + 1e-8))[:, None] * r)
    orthogonality = np.clip(off_axis / (moved + 1e-4 * (asked + 1e-8)), 0.0, 1.0)
    return error, miscalibration, orthogonality


def continuous_scores(z0: Floats, z_star: Floats, z_hat: Floats) -> Scores:
    """Both metrics, exact and continuous.

    Args:
        z0: starts, [n, d].
        z_star: targets, [n, d]; NaN where inactive.
        z_hat: reached, [n, d]; a row with a NaN scores NaN.

    Raises:
        ValueError: the three shapes differ.
    """
    made = moves(z0, z_star, z_hat)
    return _scores(made, decompose(made.e, made.r, made.m))


def published_scores(z0: Floats, z_star: Floats, z_hat: Floats) -> Scores:
    """`continuous_scores` with the published epsilons in miscalibration and orthogonality."""
    made = moves(z0, z_star, z_hat)
    return _scores(made, decompose_published(made.e, made.r, made.m))


def _scores(made: Moves, parts: tuple[Floats, Floats, Floats]) -> Scores:
    asked, moved, along = _length(made.r), _length(made.m), _dot(made.m, made.r)
    is_asked, is_moved = asked >= ZERO, moved >= ZERO
    return Scores(
        requested=asked,
        moved=moved,
        error=parts[0],
        miscalibration=parts[1],
        orthogonality=parts[2],
        sensitivity=_ratio(moved, asked, is_asked),
        directionality=np.clip(_ratio(along, asked * moved, is_asked & is_moved), -1.0, 1.0),
        score=_ratio(along, _dot(made.r, made.r), is_asked),
    )


def _dot(a: Floats, b: Floats) -> Floats:
    product: Floats = np.einsum("nd,nd->n", a, b)
    return product


def _length(a: Floats) -> Floats:
    length: Floats = np.sqrt(_dot(a, a))
    return length


def _ratio(above: Floats, below: Floats, defined: NDArray[np.bool_], otherwise: float = np.nan) -> Floats:
    """Element-wise quotient where `defined`, else `otherwise`; never a division by zero."""
    quotient: Floats = np.divide(above, below, out=np.full(above.shape, otherwise), where=defined)
    return quotient


def _undefined_like(reference: Floats, *columns: Floats) -> tuple[Floats, Floats, Floats]:
    """The three columns, NaN wherever the reference is."""
    undefined = np.isnan(reference)
    first, second, third = (np.where(undefined, np.nan, column) for column in columns)
    return first, second, third
