"""Sampling weights that make a corpus even in goal space: classifier density ratios, with their AUC.

A classifier that tells corpus texts (1) from uniform points (0) estimates p(1|z); the ratio uniform : corpus is
p(0|z) / p(1|z) (Bickel, Brueckner & Scheffer 2009). Chang et al. (2025) use plain logistic regression on z, whose ratio
is an exponential tilt exp(a + b.z): it moves the mean of a marginal but cannot flatten a peaked or U-shaped one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Estimator = Literal["none", "linear", "nonlinear"]

#: Uniform points per corpus text: more of them than texts steadies the ratio where the corpus is thin.
UNIFORM_PER_TEXT = 2
_FOLDS = 5


@dataclass(frozen=True)
class DensityWeights:
    """Weights of the texts and how far from uniform they are.

    Attributes:
        weights: [n], sums to 1.
        auc_before: held-out AUC of a flexible classifier, corpus vs uniform (0.5: cannot be told apart).
        auc_after: the same with the corpus weighted.
    """

    weights: Floats
    auc_before: float
    auc_after: float

    @property
    def effective_n(self) -> float:
        """Kish's effective sample size, 1 / sum w^2."""
        return float(1.0 / np.square(self.weights).sum())


def density_weights(z: Floats, estimator: Estimator, rng: np.random.Generator) -> DensityWeights:
    """Weight texts by the density ratio uniform : corpus.

    `linear` is the published estimator. `nonlinear` is logistic regression on cubic splines of each goal and on
    products of pairs of goals, followed by raking: each marginal is scaled to be flat over ten equal bins in turn
    until it is (Deming & Stephan 1940), as far as texts stand in the bin.

    Args:
        z: positions in goal space, shape [n, d], without NaN.
        estimator: `none`, `linear` or `nonlinear`.
        rng: source of the uniform points and the folds.

    Returns:
        Weights with the AUC before and after.
    """
    n = len(z)
    uniform = rng.uniform(size=(UNIFORM_PER_TEXT * n, z.shape[1]))
    even = np.full(n, 1.0 / n)
    if estimator == "none":
        weights = even
    elif estimator == "linear":
        weights = _ratio(_linear(), z, uniform)
    else:
        weights = _rake(_ratio(_splines(z.shape[1]), z, uniform), z)
    seed = int(rng.integers(2**31))
    before = _auc(z, uniform, even, seed)
    after = before if estimator == "none" else _auc(z, uniform, weights, seed)
    return DensityWeights(weights, before, after)


def _linear() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression()


def _splines(d: int) -> Any:
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures, SplineTransformer, StandardScaler

    knots = np.linspace(0.0, 1.0, 6)[:, None].repeat(d, axis=1)
    columns = list(range(d))
    basis = make_column_transformer(
        (SplineTransformer(degree=3, knots=knots, extrapolation="constant", include_bias=False), columns),
        (PolynomialFeatures(degree=2, interaction_only=True, include_bias=False), columns),
    )
    return make_pipeline(basis, StandardScaler(), LogisticRegression(max_iter=2000))


def _ratio(classifier: Any, z: Floats, uniform: Floats) -> Floats:
    """p(0|z) / p(1|z) of the texts, normalised; in logs, so that a sure classifier does not overflow."""
    classifier.fit(np.vstack([z, uniform]), np.r_[np.ones(len(z)), np.zeros(len(uniform))])
    log_ratio = -classifier.decision_function(z)
    weights = np.exp(log_ratio - log_ratio.max())
    return np.asarray(weights / weights.sum(), dtype=np.float64)


def _rake(weights: Floats, z: Floats, bins: int = 10, sweeps: int = 50, largest: float = 20.0) -> Floats:
    """Scale weights until each marginal is flat over its occupied bins; no text above `largest` / n."""
    cells = np.minimum((z * bins).astype(np.int64), bins - 1)  # [n, d]
    for _ in range(sweeps):
        for axis in range(z.shape[1]):
            mass = np.bincount(cells[:, axis], weights=weights, minlength=bins)
            occupied = np.bincount(cells[:, axis], minlength=bins) > 0
            factor = np.divide(1.0 / occupied.sum(), mass, out=np.zeros(bins), where=mass > 0)
            weights = weights * factor[cells[:, axis]]
        # a lone text in a far bin must not become the whole probe
        weights = np.minimum(weights / weights.sum(), largest / len(z))
        weights = weights / weights.sum()
    return weights


def _auc(z: Floats, uniform: Floats, weights: Floats, seed: int) -> float:
    """Cross-validated, weighted AUC of gradient-boosted trees: a stricter judge than the estimators it judges."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    if len(z) < 2 * _FOLDS:
        return float("nan")
    x = np.vstack([z, uniform])
    y = np.r_[np.ones(len(z)), np.zeros(len(uniform))]
    w = np.r_[weights * len(z), np.full(len(uniform), 1.0 / UNIFORM_PER_TEXT)]
    # weighted thresholds are found one by one: 64 a goal are as good a judge as 255, at a quarter of the time
    trees = HistGradientBoostingClassifier(max_iter=60, max_depth=3, learning_rate=0.1, max_bins=64, random_state=seed)
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    scores = cross_val_predict(trees, x, y, cv=folds, params={"sample_weight": w}, method="decision_function")
    return float(roc_auc_score(y, scores, sample_weight=w))
