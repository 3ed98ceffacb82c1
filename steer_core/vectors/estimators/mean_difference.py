"""Mean difference: contrastive activation addition (CAA, Rimsky et al. 2024, arXiv 2312.06681)."""

from __future__ import annotations

from steer_core.vectors.evidence import Evidence, Fit
from steer_core.vectors.linalg import as_rows

NEEDS: frozenset[str] = frozenset()
OPERATOR = "add"


def fit(evidence: Evidence, *, norm_preserving: bool = False) -> Fit:
    """Mean of the positives minus mean of the negatives, unnormalised; applied as h + c v.

    Args:
        evidence: both classes' means.
        norm_preserving: rescale each steered activation to the norm that it had.

    Raises:
        SteerworksError: the means are equal, or a class is empty.
    """
    return Fit(
        operator="add_norm_preserving" if norm_preserving else "add",
        tensors={"direction": as_rows(evidence.mean_difference)},
        scalars={"positive_share": evidence.positive_share},
    )
