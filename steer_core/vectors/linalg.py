"""Linear algebra of the estimators, in float64: shrinkage, solves and roots with relative rank cuts, transport maps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from steer_core.vectors.moments import Doubles


def as_rows(*vectors: Doubles) -> NDArray[np.float32]:
    """Vectors of shape [d] as a float32 tensor of shape [k, d]: the form that vectors are stored in."""
    return np.stack(vectors).astype(np.float32)


def unit(vector: Doubles) -> Doubles:
    """The vector at length 1.

    Raises:
        ValueError: it has no length.
    """
    norm = float(np.linalg.norm(vector))
    if norm == 0.0:
        raise ValueError("a zero vector has no direction")
    return vector / norm


def shrink(covariance: Doubles, n: int) -> tuple[Doubles, float]:
    """Optimal linear shrinkage towards a multiple of the identity (Bodnar, Gupta and Parolya 2014, arXiv 1308.2608).

    S* = a S + (1 - a) tr(S)/d I with a = 1 - (tr(S)^2 / n) / (|S|_F^2 - tr(S)^2 / d), held within [0, 1]: the
    asymptotic formula leaves that range for few rows of nearly equal variances.

    Args:
        covariance: S with divisor n, shape [d, d].
        n: rows behind it.

    Returns:
        S*, and the weight 1 - a of the identity.
    """
    d = len(covariance)
    trace = float(np.trace(covariance))
    spread = float((covariance**2).sum()) - trace**2 / d  # 0 for a multiple of the identity
    kept = 0.0 if spread <= 0.0 else float(np.clip(1.0 - trace**2 / n / spread, 0.0, 1.0))
    return kept * covariance + (1.0 - kept) * trace / d * np.eye(d), 1.0 - kept


def rank_cut(values: Doubles) -> float:
    """Eigenvalue below which a direction counts as empty: d * eps * largest, as in a pseudo-inverse."""
    return float(len(values) * np.finfo(np.float64).eps * max(values.max(), 0.0))


def solve(covariance: Doubles, vector: Doubles) -> Doubles:
    """S^+ v for a positive semidefinite S of shape [d, d] and v of shape [d]; empty directions of S are left out."""
    import scipy.linalg  # the definitions load this module, and most processes fit nothing

    factor, failed = scipy.linalg.lapack.dpotrf(covariance, lower=True)
    if not failed:
        reciprocal_condition, _ = scipy.linalg.lapack.dpocon(factor, np.abs(covariance).sum(axis=0).max(), uplo="L")
        # far from the cut the pseudo-inverse would cut nothing: the factor gives the same, ten times faster
        if reciprocal_condition > 100 * len(covariance) * np.finfo(np.float64).eps:
            return np.asarray(scipy.linalg.cho_solve((factor, True), vector))
    values, basis = np.linalg.eigh(covariance)
    kept = values > rank_cut(values)
    return np.asarray(basis[:, kept] @ ((basis[:, kept].T @ vector) / values[kept]))


def root(matrix: Doubles) -> Doubles:
    """The positive semidefinite square root, shape [d, d]; negative eigenvalues are rounding and count as 0."""
    values, basis = np.linalg.eigh(matrix)
    return np.asarray((basis * np.sqrt(values.clip(0.0))) @ basis.T)


def transport_map(source: Doubles, target: Doubles) -> Doubles:
    """Optimal transport from N(0, source) to N(0, target) as a symmetric matrix of shape [d, d].

    T = S^-1/2 (S^1/2 R S^1/2)^1/2 S^-1/2 with S the source and R the target (Gelbrich 1990), so that T S T = R. Where
    the source has no variance nothing can be transported, and T is the identity there: what was never seen is left
    alone rather than erased.
    """
    values, basis = np.linalg.eigh(source)
    kept = values > rank_cut(values)
    scale = np.sqrt(values[kept])
    seen = basis[:, kept]  # [d, r]
    half = (seen * scale) @ seen.T
    inverse = (seen / scale) @ seen.T
    return np.asarray(inverse @ root(half @ target @ half) @ inverse + basis[:, ~kept] @ basis[:, ~kept].T)


def leading_component(matrix: Doubles) -> Doubles:
    """Unit eigenvector of the largest eigenvalue of a symmetric matrix of shape [d, d]; shape [d], sign arbitrary."""
    import scipy.linalg

    last = len(matrix) - 1
    _, basis = scipy.linalg.eigh(matrix, subset_by_index=[last, last])
    return np.asarray(basis[:, 0])


def agree(vector: Doubles, reference: Doubles) -> Doubles:
    """The vector, or its negative where that points more along the reference."""
    return -vector if float(vector @ reference) < 0.0 else vector
