"""Regression on the answer's own logits: which way activations move when the model leans to the matching letter."""

from __future__ import annotations

from typing import Literal

import numpy as np

from steer_core.tables.errors import ConfigError, SteerworksError
from steer_core.vectors.evidence import Evidence, Fit
from steer_core.vectors.linalg import as_rows, shrink, solve
from steer_core.vectors.moments import Moments

NEEDS: frozenset[str] = frozenset({"rows", "logits"})
OPERATOR = "add"


def fit(evidence: Evidence, *, erase: Literal["none", "leace", "orthogonal"] = "none", shrinkage: bool = True) -> Fit:
    """Direction v = Cov(x, z) / sd(z): slope of x on z times one sd of z, the shift with +1 sd of log-odds.

    z is logit(matching letter) - logit(other letter) at the token before the letter, and x the activation there, so
    only positive examples count, and there is no scale of two classes (unit `class_alpha`). With `erase` the linear
    trace of z is taken out first (LEACE for a continuous concept, Belrose et al. 2023, or the orthogonal projection
    along v), with x's mean as center.

    Args:
        evidence: rows of the positives and their logits.
        erase: what is removed before v is added.
        shrinkage: shrink the covariance that `leace` whitens with.

    Raises:
        ConfigError: `erase` is none of the three.
        SteerworksError: rows or logits are missing, too few, or do not vary together.
    """
    if erase not in ("none", "leace", "orthogonal"):
        raise ConfigError(f"estimator logit-regression: erase must be none, leace or orthogonal, not {erase!r}")
    if evidence.positive_rows is None or evidence.logits is None:
        raise SteerworksError(f"{evidence.where}: logit regression needs A/B examples with the logits of their letters")
    x = evidence.positive_rows.astype(np.float64)
    z = np.asarray(evidence.logits, dtype=np.float64)
    if len(x) != len(z):
        raise SteerworksError(f"{evidence.where}: {len(x)} activations with {len(z)} logits")
    if len(z) < 2 or z.std() == 0.0:
        raise SteerworksError(f"{evidence.where}: the logits of {len(z)} examples do not vary: nothing to regress on")
    center = x.mean(axis=0)
    slope = (x - center).T @ (z - z.mean()) / (len(z) - 1)  # Cov(x, z), shape [d]
    direction = slope / z.std(ddof=1)
    if not float(direction @ direction) > 0.0:
        raise SteerworksError(f"{evidence.where}: activations do not move with the logits")
    scalars: dict[str, float] = {}
    if erase == "none":
        return Fit("add", {"direction": as_rows(direction)}, scalars)
    if erase == "leace":
        moments = Moments(x.shape[1], second=True)
        moments.update(x)
        covariance = moments.covariance(ddof=0)
        if shrinkage:
            covariance, scalars["shrinkage"] = shrink(covariance, moments.n)
        probe = solve(covariance, direction)
    else:
        probe = direction
    tensors = {
        "left": as_rows(direction),
        "right": as_rows(probe / float(probe @ direction)),
        "center": as_rows(center),
        "direction": as_rows(direction),
    }
    return Fit("affine", tensors, scalars)
