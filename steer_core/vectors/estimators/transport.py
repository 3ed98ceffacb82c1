"""Gaussian optimal transport: activations of both classes are carried to the mean and covariance of one of them."""

from __future__ import annotations

from steer_core.vectors.evidence import Evidence, Fit
from steer_core.vectors.linalg import as_rows, shrink, transport_map

NEEDS: frozenset[str] = frozenset({"covariance"})
OPERATOR = "transport"


def fit(evidence: Evidence, *, shrinkage: bool = True) -> Fit:
    """Maps h to T (h - mu) + mu_k, T the optimal map from N(mu, S), all examples, to N(mu_k, S_k), class k.

    The operator takes the positive class for a positive coefficient and the negative one for a negative, and goes
    the share |c| <= 1 of the way (displacement interpolation, McCann 1997). The map is d x d: unlike the affine edits
    it has no low-rank form.

    Args:
        evidence: both classes' means and second moments.
        shrinkage: shrink each covariance towards a multiple of the identity (`linalg.shrink`). Without it, directions
            in which the examples do not vary are left alone.

    Raises:
        SteerworksError: the means are equal, or a class is empty.
    """
    _ = evidence.mean_difference  # refuses classes that are the same
    source = evidence.pooled.covariance(ddof=0)
    positive, negative = evidence.positive.covariance(ddof=0), evidence.negative.covariance(ddof=0)
    scalars = {"positive_share": evidence.positive_share}
    if shrinkage:
        source, scalars["shrinkage"] = shrink(source, evidence.pooled.n)
        positive, _weight = shrink(positive, evidence.positive.n)
        negative, _weight = shrink(negative, evidence.negative.n)
    return Fit(
        operator="transport",
        tensors={
            "map_positive": as_rows(*transport_map(source, positive)),
            "map_negative": as_rows(*transport_map(source, negative)),
            "center": as_rows(evidence.center),
            "mean_positive": as_rows(evidence.positive.mean),
            "mean_negative": as_rows(evidence.negative.mean),
        },
        scalars=scalars,
    )
