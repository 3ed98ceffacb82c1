"""Affine concept editing (ACE, Marshall, Scherlis and Belrose 2024, arXiv 2411.09003); also known as an affine set.

The coefficient is the paper's alpha, an absolute place on the line between the classes: 0 sets every token to the mean
of the negatives, 1 to that of the positives. Setting a token to a point of the classes' own scale ("affine set") is the
same map, so it has no file of its own. It equals `orthogonal` at coefficient alpha - p, with p the share of positives;
what differs is where 0 lies.
"""

from __future__ import annotations

from steer_core.vectors.evidence import Evidence, Fit
from steer_core.vectors.linalg import as_rows, unit

NEEDS: frozenset[str] = frozenset()
OPERATOR = "affine"


def fit(evidence: Evidence) -> Fit:
    """Maps h to h - proj_r(h) + proj_r(mu-) + a r, r the mean difference and mu- the mean of the negatives.

    Args:
        evidence: both classes' means.

    Raises:
        SteerworksError: the means are equal, or a class is empty.
    """
    direction = evidence.mean_difference
    along = as_rows(unit(direction))
    return Fit(
        operator="affine",
        tensors={
            "left": along,
            "right": along,
            "center": as_rows(evidence.negative.mean),
            "direction": as_rows(direction),
        },
        # the unit `class_alpha` counts from where coefficient 0 lies: here from the negatives, not from the grand mean
        scalars={"positive_share": evidence.positive_share, "alpha_at_zero": 0.0},
    )
