"""Transport between two classes, each token from the class that linear discriminant analysis takes it for."""

from __future__ import annotations

import math

import numpy as np

from steer_core.tables.errors import ConfigError, SteerworksError
from steer_core.vectors.evidence import Evidence, Fit
from steer_core.vectors.linalg import as_rows, shrink, solve, transport_map

NEEDS: frozenset[str] = frozenset({"covariance"})
OPERATOR = "gated_transport"


def fit(evidence: Evidence, *, shrinkage: bool = True, prior: float | None = None, compat: bool = False) -> Fit:
    """Maps h of the other class s to T (h - mu_s) + mu_t, T the optimal map between the two Gaussians.

    A token is positive where w.h > w.(mu+ + mu-)/2 - log(q / (1 - q)), with w = S_w^-1 D, S_w the covariance within
    the classes and q the prior of the positives (Hastie, Tibshirani and Friedman 2009, eq. 4.11). The operator moves
    tokens to the positive class for a positive coefficient, to the negative for a negative; those already there stay.

    Args:
        evidence: both classes' means and second moments.
        shrinkage: shrink each covariance towards a multiple of the identity (`linalg.shrink`).
        prior: q; None takes the share of positives among the examples.
        compat: threshold at the grand mean, whatever the prior, as the published sweeps had it; that is the rule above
            for balanced classes only.

    Raises:
        ConfigError: the prior lies outside (0, 1), or is given with `compat`.
        SteerworksError: the means are equal, a class is empty, or, without shrinkage, there are too few examples to
            know the variance along the mean difference.
    """
    if prior is not None and (compat or not 0.0 < prior < 1.0):
        raise ConfigError(f"estimator gated-transport: prior must lie between 0 and 1, without compat; got {prior}")
    direction = evidence.mean_difference
    share = evidence.positive_share
    positive, negative = evidence.positive.covariance(ddof=0), evidence.negative.covariance(ddof=0)
    within = share * positive + (1.0 - share) * negative
    if shrinkage:
        within, _weight = shrink(within, evidence.positive.n + evidence.negative.n)
        positive, _weight = shrink(positive, evidence.positive.n)
        negative, _weight = shrink(negative, evidence.negative.n)
    probe = solve(within, direction)
    # D may leave the span of the rows within classes, and the pseudo-inverse would drop just what tells them apart
    if np.linalg.norm(within @ probe - direction) > 1e-6 * np.linalg.norm(direction):
        raise SteerworksError(
            f"{evidence.where}: too few examples to know the variance along the mean difference; leave `shrinkage` on"
        )
    if compat:
        threshold = float(probe @ evidence.center)
    else:
        q = share if prior is None else prior
        threshold = float(probe @ (evidence.positive.mean + evidence.negative.mean)) / 2.0 - math.log(q / (1.0 - q))
    return Fit(
        operator="gated_transport",
        tensors={
            "lda": as_rows(probe),
            "map_to_positive": as_rows(*transport_map(negative, positive)),
            "map_to_negative": as_rows(*transport_map(positive, negative)),
            "mean_positive": as_rows(evidence.positive.mean),
            "mean_negative": as_rows(evidence.negative.mean),
        },
        scalars={"positive_share": share, "lda_threshold": threshold},
    )
