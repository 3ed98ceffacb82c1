"""Directional ablation (Arditi et al. 2024, arXiv 2406.11717): the component along one direction is taken out."""

from __future__ import annotations

from steer_core.vectors.evidence import Evidence, Fit
from steer_core.vectors.linalg import as_rows, unit

NEEDS: frozenset[str] = frozenset()
OPERATOR = "ablate"


def fit(evidence: Evidence) -> Fit:
    """Maps h to h - c u u.h with u the unit mean difference; c = 1 removes it, c = -1 doubles it, 0 does nothing.

    Unlike `orthogonal` it projects onto the plane through the origin, which is where neither class lies.

    Args:
        evidence: both classes' means.

    Raises:
        SteerworksError: the means are equal, or a class is empty.
    """
    return Fit(
        operator="ablate",
        tensors={"direction": as_rows(unit(evidence.mean_difference))},
        scalars={"positive_share": evidence.positive_share},
    )
