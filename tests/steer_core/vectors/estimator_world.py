"""Evidence from rows, and estimators applied through the real operators: shared by the tests of this folder."""

import numpy as np

from steer_core.steering.operators import load_operator
from steer_core.steering.vector import SteeringVector
from steer_core.vectors.evidence import Evidence, Fit, Point
from steer_core.vectors.moments import Moments


def moments(rows, second=True):
    found = Moments(rows.shape[1], second=second)
    found.update(rows)
    return found


def evidence(positive, negative, paired=False, logits=None):
    """Everything that an estimator may need of some rows."""
    return Evidence(
        concept="warmth",
        point=Point(3),
        positive=moments(positive),
        negative=moments(negative),
        difference=moments(positive - negative) if paired else None,
        positive_rows=positive,
        negative_rows=negative,
        logits=logits,
    )


def classes(n_positive=60, n_negative=90, d=12, seed=0, gap=1.0, scale=1.0):
    """Two Gaussian classes with different means and covariances, away from the origin."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(2, d, d))
    offset, shift = 3.0 * rng.normal(size=d), gap * rng.normal(size=d)
    positive = offset + shift + rng.normal(size=(n_positive, d)) @ (np.eye(d) + 0.4 * mix[0])
    negative = offset + rng.normal(size=(n_negative, d)) @ (np.eye(d) + 0.4 * mix[1])
    return scale * positive, scale * negative


def apply(fit: Fit, rows, coefficient):
    """Rows after the fit's operator, in double precision, after the operator's own check of the vector."""
    import torch

    operator = load_operator(fit.operator)
    operator.check(
        SteeringVector(
            concept="warmth",
            operator=fit.operator,
            layer=0,
            tensors={n: np.asarray(t, dtype=np.float32) for n, t in fit.tensors.items()},
            scalars=dict(fit.scalars),
            model="m",
        )
    )
    tensors = {n: torch.from_numpy(np.asarray(t, dtype=np.float64)) for n, t in fit.tensors.items()}
    hidden = torch.from_numpy(np.asarray(rows, dtype=np.float64))[None]
    return operator.apply(hidden, tensors, fit.scalars, torch.full((1, 1, 1), float(coefficient)).double())[0].numpy()
