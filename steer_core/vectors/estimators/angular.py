"""Angular steering (Vu and Nguyen 2025, arXiv 2510.26243): rotation in a plane that holds the concept's direction."""

from __future__ import annotations

import numpy as np

from steer_core.tables.errors import SteerworksError
from steer_core.vectors.evidence import Evidence, Fit
from steer_core.vectors.linalg import agree, as_rows, leading_component, unit

NEEDS: frozenset[str] = frozenset({"covariance"})
OPERATOR = "rotate"


def fit(evidence: Evidence, *, adaptive: bool = True) -> Fit:
    """Plane of the unit mean difference (0 degrees) and the main component of all activations orthogonal to it (90).

    The operator turns each activation's part in the plane to the asked angle and keeps its norm: 0 degrees is the
    concept, 180 its opposite. The second axis is the first principal component once the mean difference is projected
    out (the paper takes it from the directions of all layers; here a layer stands on its own), towards the side where
    activations lie.

    Args:
        evidence: both classes' means and second moments.
        adaptive: turn only activations on the concept's side (the paper's adaptive variant).

    Raises:
        SteerworksError: the means are equal, a class is empty, or activations vary along one direction only.
    """
    direction = evidence.mean_difference
    first = unit(direction)
    covariance = evidence.pooled.covariance(ddof=0)
    off = covariance - np.outer(first, first @ covariance)
    off -= np.outer(off @ first, first)  # (I - u u^T) S (I - u u^T)
    component = leading_component((off + off.T) / 2.0)
    component -= first * (first @ component)
    if not float(component @ off @ component) > np.finfo(np.float64).eps * len(off) * float(np.trace(covariance)):
        raise SteerworksError(f"{evidence.where}: the activations vary along one direction only, so there is no plane")
    second = agree(unit(component), evidence.center)
    return Fit(
        operator="rotate",
        tensors={"plane": as_rows(first, second), "direction": as_rows(direction)},
        scalars={"positive_share": evidence.positive_share, "adaptive": float(adaptive)},
    )
