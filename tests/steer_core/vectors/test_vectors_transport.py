"""Maps: transport to a class, ablation, rotation, and the linear algebra under them."""

import numpy as np
import pytest
from estimator_world import apply, classes, evidence
from hypothesis import given, settings
from hypothesis import strategies as st

from steer_core.tables.errors import ConfigError, SteerworksError
from steer_core.vectors import linalg
from steer_core.vectors.estimators import ablation, angular, gated_transport, transport


def cosine(a, b):
    a, b = np.asarray(a, float), np.asarray(b, float)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_transport_gives_the_moments_of_the_target_class(sign):
    positive, negative = classes(80, 120, d=6)
    rows = np.vstack([positive, negative])
    fit = transport.fit(evidence(positive, negative), shrinkage=False)
    moved, target = apply(fit, rows, sign), positive if sign > 0 else negative
    np.testing.assert_allclose(moved.mean(0), target.mean(0), atol=1e-4)
    np.testing.assert_allclose(np.cov(moved.T, ddof=0), np.cov(target.T, ddof=0), atol=1e-3)
    half = apply(fit, rows, 0.5 * sign)
    np.testing.assert_allclose(half, (rows + moved) / 2, atol=1e-6)


def test_transport_shrinks_towards_round_classes_and_leaves_unseen_directions_alone():
    positive, negative = classes(8, 9, d=30)
    data = evidence(positive, negative)
    fit = transport.fit(data, shrinkage=False)
    rows = np.vstack([positive, negative])
    _, _, basis = np.linalg.svd(rows - rows.mean(0))
    unseen = basis[-1]
    np.testing.assert_allclose(fit.tensors["map_positive"] @ unseen, unseen, atol=1e-4)
    shrunk = transport.fit(data)
    assert shrunk.scalars["shrinkage"] > 0.0
    assert np.linalg.eigvalsh(shrunk.tensors["map_positive"].astype(float)).min() > 0.0


def test_gated_transport_moves_only_the_other_class_and_gives_it_the_moments_of_the_target():
    positive, negative = classes(90, 60, d=5, gap=6.0)
    fit = gated_transport.fit(evidence(positive, negative), shrinkage=False)
    np.testing.assert_array_equal(apply(fit, positive, 1.0), positive)
    moved = apply(fit, negative, 1.0)
    np.testing.assert_allclose(moved.mean(0), positive.mean(0), atol=1e-4)
    np.testing.assert_allclose(np.cov(moved.T, ddof=0), np.cov(positive.T, ddof=0), atol=1e-3)
    np.testing.assert_array_equal(apply(fit, negative, -1.0), negative)
    np.testing.assert_allclose(apply(fit, positive, -1.0).mean(0), negative.mean(0), atol=1e-4)


@pytest.mark.parametrize("prior", [None, 0.5, 0.02])
def test_the_gate_of_gated_transport_is_the_rule_of_sklearns_discriminant_analysis(prior):
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    positive, negative = classes(90, 30, d=5)
    rows = np.vstack([positive, negative])
    labels = np.repeat([1, 0], [90, 30])
    fit = gated_transport.fit(evidence(positive, negative), shrinkage=False, prior=prior)
    # same within-class covariance, our prior
    theirs = LinearDiscriminantAnalysis(solver="lsqr").fit(rows, labels)
    share = 0.75 if prior is None else prior
    log_odds = theirs.decision_function(rows) - np.log(3.0) + np.log(share / (1 - share))
    ours = rows @ fit.tensors["lda"][0] - fit.scalars["lda_threshold"]
    np.testing.assert_allclose(ours, log_odds, atol=1e-3)


def test_gated_transport_compat_puts_the_threshold_at_the_grand_mean():
    positive, negative = classes(90, 30, d=5)
    data = evidence(positive, negative)
    fit = gated_transport.fit(data, compat=True)
    center = np.vstack([positive, negative]).mean(0)
    assert fit.scalars["lda_threshold"] == pytest.approx(float(fit.tensors["lda"][0] @ center), rel=1e-5)
    balanced = evidence(positive[:30], negative)
    assert gated_transport.fit(balanced, compat=True).scalars["lda_threshold"] == pytest.approx(
        gated_transport.fit(balanced).scalars["lda_threshold"], rel=1e-5
    )
    with pytest.raises(ConfigError, match="prior must lie"):
        gated_transport.fit(data, prior=1.0)
    with pytest.raises(ConfigError, match="without compat"):
        gated_transport.fit(data, prior=0.5, compat=True)


def test_gated_transport_without_shrinkage_refuses_a_probe_that_it_cannot_know():
    positive, negative = classes(5, 5, d=40)
    with pytest.raises(SteerworksError, match="leave `shrinkage` on"):
        gated_transport.fit(evidence(positive, negative), shrinkage=False)
    assert apply(gated_transport.fit(evidence(positive, negative)), negative, 1.0).shape == negative.shape


def test_ablation_removes_the_direction_and_nothing_else():
    positive, negative = classes()
    fit = ablation.fit(evidence(positive, negative))
    unit = fit.tensors["direction"][0].astype(float)
    assert np.linalg.norm(unit) == pytest.approx(1.0, abs=1e-6)
    edited = apply(fit, positive, 1.0)
    np.testing.assert_allclose(edited @ unit, 0.0, atol=1e-5)
    np.testing.assert_allclose(positive - edited, np.outer(positive @ unit, unit), atol=1e-4)


def test_angular_turns_within_the_plane_of_the_concept_and_keeps_the_norm():
    positive, negative = classes()
    data = evidence(positive, negative)
    rows = np.vstack([positive, negative])
    fit = angular.fit(data, adaptive=False)
    plane = fit.tensors["plane"].astype(float)
    np.testing.assert_allclose(plane @ plane.T, np.eye(2), atol=1e-6)
    assert cosine(plane[0], positive.mean(0) - negative.mean(0)) == pytest.approx(1.0, abs=1e-6)
    turned = apply(fit, rows, 30.0)
    np.testing.assert_allclose(np.linalg.norm(turned, axis=1), np.linalg.norm(rows, axis=1), rtol=1e-5)
    angles = np.degrees(np.arctan2(turned @ plane[1], turned @ plane[0]))
    np.testing.assert_allclose(angles, 30.0, atol=1e-3)
    off = np.eye(rows.shape[1]) - plane.T @ plane
    np.testing.assert_allclose(turned @ off, rows @ off, atol=1e-4)


def test_the_second_axis_has_the_most_variance_of_all_directions_orthogonal_to_the_first():
    positive, negative = classes()
    rows = np.vstack([positive, negative])
    plane = angular.fit(evidence(positive, negative)).tensors["plane"].astype(float)
    rng = np.random.default_rng(0)
    others = rng.normal(size=(500, rows.shape[1]))
    others -= np.outer(others @ plane[0], plane[0])
    others /= np.linalg.norm(others, axis=1, keepdims=True)
    assert (rows @ plane[1]).var() >= (rows @ others.T).var(axis=0).max()
    assert rows.mean(0) @ plane[1] >= 0.0


def test_adaptive_turning_leaves_the_other_side_alone():
    positive, negative = classes()
    rows = np.vstack([positive, negative])
    fit = angular.fit(evidence(positive, negative))
    away = rows @ fit.tensors["plane"][0] <= 0.0
    turned = apply(fit, rows, 90.0)
    np.testing.assert_array_equal(turned[away], rows[away])
    line = np.outer(np.arange(6.0), np.ones(3))
    with pytest.raises(SteerworksError, match="one direction only"):
        angular.fit(evidence(line + 1.0, line))


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 30), st.integers(2, 40), st.integers(0, 1000))
def test_shrinkage_stays_between_the_covariance_and_the_identity(n, d, seed):
    rows = np.random.default_rng(seed).normal(size=(n, d))
    covariance = np.cov(rows.T, ddof=0).reshape(d, d)
    shrunk, weight = linalg.shrink(covariance, n)
    assert 0.0 <= weight <= 1.0
    assert np.trace(shrunk) == pytest.approx(np.trace(covariance))
    assert np.linalg.eigvalsh(shrunk).min() >= np.linalg.eigvalsh(covariance).min() - 1e-9


def test_solving_is_the_pseudo_inverse_for_full_and_for_deficient_rank():
    rng = np.random.default_rng(0)
    for rank in (8, 5):
        factor = rng.normal(size=(8, rank))
        matrix, vector = factor @ factor.T, factor @ rng.normal(size=rank)
        np.testing.assert_allclose(
            linalg.solve(matrix, vector), np.linalg.pinv(matrix, hermitian=True) @ vector, rtol=1e-6
        )


def test_a_transport_map_carries_one_covariance_to_the_other():
    rng = np.random.default_rng(0)
    a, b = (m @ m.T for m in rng.normal(size=(2, 6, 6)))
    t = linalg.transport_map(a, b)
    np.testing.assert_allclose(t @ a @ t, b, atol=1e-8)
    np.testing.assert_allclose(linalg.transport_map(a, a), np.eye(6), atol=1e-6)
