"""Least-squares concept erasure (LEACE, Belrose et al. 2023, arXiv 2306.03819), in closed form for two classes."""

from __future__ import annotations

from steer_core.tables.errors import SteerworksError
from steer_core.vectors.evidence import Evidence, Fit
from steer_core.vectors.linalg import as_rows, shrink, solve

NEEDS: frozenset[str] = frozenset({"covariance"})
OPERATOR = "affine"


def fit(evidence: Evidence, *, shrinkage: bool = True) -> Fit:
    """Maps h to h - D w.(h - mu) + c D, D the mean difference, w = S^+ D / (D.S^+ D), S the covariance of all examples.

    The general form S^1/2 U U^T S^-1/2 has rank one for two classes, and D w^T is that. At c = 0 the two class means
    are equal, so that no linear probe does better than chance, and no affine map that achieves this moves the examples
    less in mean square. w is the direction of linear discriminant analysis; at any c, w.h' = w.mu + c for every h.
    There is no threshold on singular values: a small D is still erased. The total variance never rises, so there is no
    need to constrain it: P S P^T = S - D D^T / (D.S^+ D), and a shrunk w lies between that and the orthogonal
    projection.

    Args:
        evidence: both classes' means and second moments.
        shrinkage: shrink S towards a multiple of the identity (`linalg.shrink`). Means stay exactly equal; the move is
            smallest under the shrunk S, which needs no more examples than dimensions.

    Raises:
        SteerworksError: the means are equal, or a class is empty.
    """
    direction = evidence.mean_difference
    pooled = evidence.pooled
    covariance = pooled.covariance(ddof=0)
    scalars = {"positive_share": evidence.positive_share}
    if shrinkage:
        covariance, scalars["shrinkage"] = shrink(covariance, pooled.n)
    probe = solve(covariance, direction)
    along = float(probe @ direction)
    if not along > 0.0:
        raise SteerworksError(f"{evidence.where}: the activations have no variance along the difference of their means")
    return Fit(
        operator="affine",
        tensors={
            "left": as_rows(direction),
            "right": as_rows(probe / along),
            "center": as_rows(evidence.center),
            "direction": as_rows(direction),
        },
        scalars=scalars,
    )
