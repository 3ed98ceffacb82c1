"""Closed forms: what each estimator promises of the activations that it edits."""

import importlib
import pkgutil
from dataclasses import replace

import numpy as np
import pytest
from estimator_world import apply, classes, evidence, moments

import steer_core.vectors.estimators as estimators_room
from steer_core.tables.errors import ConfigError, SteerworksError
from steer_core.vectors.estimators import (
    ablation,
    ace,
    angular,
    gated_transport,
    leace,
    logistic,
    logit_regression,
    mean_difference,
    orthogonal,
    pca_difference,
    random_direction,
    transport,
)

#: Double-precision fits are stored in single precision.
SINGLE = 2e-5
CLOSED_FORM = (
    ablation,
    ace,
    angular,
    gated_transport,
    leace,
    logistic,
    logit_regression,
    mean_difference,
    orthogonal,
    pca_difference,
    random_direction,
    transport,
)


def cosine(a, b):
    a, b = np.asarray(a, float), np.asarray(b, float)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_the_list_of_closed_forms_is_complete():
    # `imported` fits nothing
    trained = {"bipo", "reps", "scrub", "loreft", "imported"}
    names = {m.name for m in pkgutil.iter_modules(estimators_room.__path__) if not m.name.startswith("_")}
    assert names - trained == {m.__name__.rsplit(".", 1)[1] for m in CLOSED_FORM}


@pytest.mark.parametrize("name", [m.__name__ for m in CLOSED_FORM])
def test_every_fit_is_single_precision_that_its_operator_takes(name):
    module = importlib.import_module(name)
    positive, negative = classes(40, 40)
    data = evidence(positive, negative, paired=True, logits=positive[:, 0])
    fit = module.fit(data)
    assert {t.dtype for t in fit.tensors.values()} == {np.dtype(np.float32)}
    assert apply(fit, positive, 1.0).shape == positive.shape  # the operator's check passes
    assert not np.allclose(apply(fit, np.vstack([positive, negative]), 1.0), np.vstack([positive, negative]))


@pytest.mark.parametrize("name", [m.__name__ for m in CLOSED_FORM if m not in (logistic, logit_regression)])
def test_what_an_estimator_needs_is_what_it_says(name):
    """Without second moments, pairs and rows, those that do not name them still fit, and the others refuse."""
    module = importlib.import_module(name)
    positive, negative = classes(40, 40)
    bare = replace(
        evidence(positive, negative),
        positive=moments(positive, second=False),
        negative=moments(negative, second=False),
        positive_rows=None,
        negative_rows=None,
    )
    if module.NEEDS:
        with pytest.raises((SteerworksError, ValueError)):
            module.fit(bare)
    else:
        full = module.fit(evidence(positive, negative))
        assert all(np.array_equal(t, full.tensors[n]) for n, t in module.fit(bare).tensors.items())


def test_mean_difference_is_the_difference_of_the_means():
    positive, negative = classes()
    fit = mean_difference.fit(evidence(positive, negative))
    np.testing.assert_allclose(fit.tensors["direction"][0], positive.mean(0) - negative.mean(0), rtol=1e-6, atol=1e-6)
    assert fit.operator == "add"
    assert fit.scalars["positive_share"] == pytest.approx(0.4)
    kept = mean_difference.fit(evidence(positive, negative), norm_preserving=True)
    np.testing.assert_allclose(
        np.linalg.norm(apply(kept, positive, 3.0), axis=1), np.linalg.norm(positive, axis=1), rtol=1e-6
    )


def test_pca_equals_sklearn_on_rows():
    from sklearn.decomposition import PCA

    positive, negative = classes(50, 50)
    data = evidence(positive, negative, paired=True)
    differences = positive - negative
    mean = differences.mean(0)
    for centered, rows in ((True, differences), (False, np.vstack([differences, -differences]))):
        found = pca_difference.fit(data, centered=centered).tensors["direction"][0]
        theirs = PCA(1).fit(rows).components_[0]
        np.testing.assert_allclose(abs(cosine(found, theirs)), 1.0, atol=1e-6)
        assert found @ mean >= 0.0
        assert np.linalg.norm(found) == pytest.approx(np.linalg.norm(mean), rel=1e-5)


def test_pca_refuses_unpaired_data_and_says_what_to_use():
    with pytest.raises(SteerworksError, match=r"'warmth' at layer 3 \(residual\).*mean-difference"):
        pca_difference.fit(evidence(*classes()))


@pytest.mark.parametrize("standardize", [True, False])
def test_logistic_equals_sklearn(standardize):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    positive, negative = classes(scale=4.0)
    positive[:, 0] *= 30.0  # unlike scales, so that standardising matters
    negative[:, 0] *= 30.0
    x = np.vstack([positive, negative])
    y = np.repeat([1, 0], [len(positive), len(negative)])
    scaler = StandardScaler() if standardize else StandardScaler(with_std=False)
    theirs = make_pipeline(scaler, LogisticRegression(C=0.3, max_iter=1000)).fit(x, y)
    odds = theirs.decision_function(np.vstack([np.zeros(x.shape[1]), np.eye(x.shape[1])]))
    gradient = odds[1:] - odds[0]  # the probe is affine, so steps of one give its slope
    found = logistic.fit(evidence(positive, negative), C=0.3, standardize=standardize).tensors["direction"][0]
    assert cosine(found, gradient) == pytest.approx(1.0, abs=1e-9)
    assert np.linalg.norm(found) == pytest.approx(np.linalg.norm(positive.mean(0) - negative.mean(0)), rel=1e-5)


def test_logistic_says_when_it_did_not_converge_and_refuses_senseless_options():
    data = evidence(*classes())
    with pytest.raises(SteerworksError, match="did not converge in 1 steps"):
        logistic.fit(data, max_iter=1)
    with pytest.raises(ConfigError, match="C and max_iter must be positive"):
        logistic.fit(data, C=0.0)


def test_logit_regression_is_the_shift_of_one_standard_deviation():
    """Where x = a + b z exactly, the shift that goes with one sd of z is b sd(z)."""
    rng = np.random.default_rng(0)
    z = rng.normal(1.0, 2.5, size=40)
    slope = rng.normal(size=6)
    rows = 5.0 + z[:, None] * slope
    fit = logit_regression.fit(evidence(rows, rows[:1], logits=z))
    np.testing.assert_allclose(fit.tensors["direction"][0], slope * z.std(ddof=1), rtol=1e-5)
    assert "positive_share" not in fit.scalars  # no two classes, no class scale


@pytest.mark.parametrize("erase", ["leace", "orthogonal"])
def test_logit_regression_can_erase_what_the_logits_follow(erase):
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(80, 6)) @ rng.normal(size=(6, 6)) + 2.0
    z = rows @ rng.normal(size=6) + rng.normal(size=80)
    fit = logit_regression.fit(evidence(rows, rows[:1], logits=z), erase=erase)
    edited = apply(fit, rows, 0.0)
    before = np.abs(np.cov(rows.T, z)[-1, :-1]).max()
    assert np.abs(np.cov(edited.T, z)[-1, :-1]).max() < SINGLE * before
    np.testing.assert_allclose(edited.mean(0), rows.mean(0), atol=1e-4)
    np.testing.assert_allclose(apply(fit, rows, 2.0) - edited, np.tile(2.0 * fit.tensors["direction"], (80, 1)))


def test_logit_regression_names_what_is_missing():
    rows = np.ones((4, 3))
    with pytest.raises(SteerworksError, match="needs A/B examples"):
        logit_regression.fit(evidence(rows, rows))
    with pytest.raises(SteerworksError, match="do not vary"):
        logit_regression.fit(evidence(rows, rows, logits=np.ones(4)))
    with pytest.raises(SteerworksError, match="4 activations with 3 logits"):
        logit_regression.fit(evidence(rows, rows, logits=np.arange(3.0)))
    with pytest.raises(ConfigError, match="erase must be"):
        logit_regression.fit(evidence(rows, rows, logits=np.arange(4.0)), erase="quad")


@pytest.mark.parametrize("module", [mean_difference, orthogonal, ace, leace, ablation, angular, transport])
def test_equal_means_are_refused_with_the_place_named(module):
    rows, _ = classes()
    shuffled = rows[np.random.default_rng(0).permutation(len(rows))]  # equal but for rounding
    with pytest.raises(SteerworksError, match=r"'warmth' at layer 3.*same mean activation"):
        module.fit(evidence(rows, shuffled))
