"""Direction of a logistic probe (Alain and Bengio 2017; the `probe` of AxBench, Wu et al. 2025)."""

from __future__ import annotations

import warnings

import numpy as np

from steer_core.tables.errors import ConfigError, SteerworksError
from steer_core.vectors.evidence import Evidence, Fit
from steer_core.vectors.linalg import as_rows, unit

NEEDS: frozenset[str] = frozenset({"rows"})
OPERATOR = "add"


def fit(evidence: Evidence, *, C: float = 1.0, standardize: bool = True, max_iter: int = 1000) -> Fit:
    """Gradient of the log-odds of a logistic regression, at the norm of the mean difference.

    Args:
        evidence: rows of both classes.
        C: inverse strength of the L2 penalty.
        standardize: divide each dimension by its standard deviation before the fit, so that the penalty treats large
            and small dimensions alike; the direction is given in the original space either way.
        max_iter: most steps of L-BFGS.

    Raises:
        ConfigError: C or `max_iter` is not positive.
        SteerworksError: the fit did not converge, or the classes do not differ.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    if C <= 0.0 or max_iter <= 0:
        raise ConfigError(f"estimator logistic: C and max_iter must be positive; got C={C}, max_iter={max_iter}")
    x, labels = evidence.rows()
    length = np.linalg.norm(evidence.mean_difference)
    scale = x.std(axis=0) if standardize else np.ones(x.shape[1])
    scale[scale == 0.0] = 1.0  # a constant dimension tells nothing either way
    probe = LogisticRegression(C=C, max_iter=max_iter)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", ConvergenceWarning)
            probe.fit((x - x.mean(axis=0)) / scale, labels)
    except ConvergenceWarning as warning:
        raise SteerworksError(
            f"{evidence.where}: the logistic regression did not converge in {max_iter} steps; raise `max_iter`, lower "
            "`C`, or leave `standardize` on"
        ) from warning
    slope = np.asarray(probe.coef_[0], dtype=np.float64) / scale  # log-odds per unit of the original space
    return Fit(
        operator="add",
        tensors={"direction": as_rows(unit(slope) * length)},
        scalars={"positive_share": evidence.positive_share},
    )
