"""Affine orthogonal projection: the coordinate along the mean difference is set, everything else stays."""

from __future__ import annotations

from steer_core.vectors.evidence import Evidence, Fit
from steer_core.vectors.linalg import as_rows, unit

NEEDS: frozenset[str] = frozenset()
OPERATOR = "affine"


def fit(evidence: Evidence) -> Fit:
    """Maps h to h - u u.(h - mu) + c D, D the mean difference, u = D/|D| and mu the mean of all examples.

    Every token's coordinate along u becomes that of mu + c D, whatever it was: c = -p (p the share of positives) is the
    mean of the negatives, c = 1 - p that of the positives. No threshold: a small D is still a direction.

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
            "center": as_rows(evidence.center),
            "direction": as_rows(direction),
        },
        scalars={"positive_share": evidence.positive_share},
    )
