"""The concept-erasure package as a second opinion on the same rows.

Its known faults are excepted, each by name: singular values under an absolute 0.01 are dropped, so that it stops erasing
small differences; its shrinkage weight is not held within [0, 1]; its transport means to take the class from labels, not
from a discriminant with a prior; and its trace-regularised branch rebuilds the factors wrongly (never reached here: in
exact arithmetic erasure does not raise the trace).
"""

import numpy as np
import pytest
import torch
from concept_erasure import LeaceFitter, QuadraticFitter
from concept_erasure.shrinkage import optimal_linear_shrinkage
from estimator_world import apply, classes, evidence

from steer_core.vectors import linalg
from steer_core.vectors.estimators import gated_transport, leace, orthogonal, transport


def stack(positive, negative):
    """Their form: all rows, and their labels."""
    labels = np.repeat([1, 0], [len(positive), len(negative)])
    return torch.from_numpy(np.vstack([positive, negative])), torch.from_numpy(labels)


@pytest.mark.parametrize("shrinkage", [True, False])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_leace_equals_concept_erasure(shrinkage, seed):
    positive, negative = classes(60, 90, seed=seed)
    x, z = stack(positive, negative)
    theirs = LeaceFitter.fit(x, z, shrinkage=shrinkage).eraser(x).numpy()
    ours = apply(leace.fit(evidence(positive, negative), shrinkage=shrinkage), x.numpy(), 0.0)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_leace_equals_concept_erasure_with_fewer_rows_than_dimensions():
    positive, negative = classes(12, 11, d=40)
    x, z = stack(positive, negative)
    theirs = LeaceFitter.fit(x, z).eraser(x).numpy()
    np.testing.assert_allclose(apply(leace.fit(evidence(positive, negative)), x.numpy(), 0.0), theirs, atol=1e-4)


def test_orthogonal_projection_equals_concept_erasure():
    positive, negative = classes()
    x, z = stack(positive, negative)
    theirs = LeaceFitter.fit(x, z, method="orth").eraser(x).numpy()
    np.testing.assert_allclose(apply(orthogonal.fit(evidence(positive, negative)), x.numpy(), 0.0), theirs, atol=1e-4)


def test_where_concept_erasure_drops_a_small_difference_ours_still_erases_it():
    """Their absolute cut of singular values at 0.01: the projection is then the identity."""
    positive, negative = classes(gap=0.0)
    positive += negative.mean(0) - positive.mean(0) + 0.03 * np.eye(12)[0]
    x, z = stack(positive, negative)
    theirs = LeaceFitter.fit(x, z, method="orth").eraser(x)
    torch.testing.assert_close(theirs, x)
    ours = apply(orthogonal.fit(evidence(positive, negative)), x.numpy(), 0.0)
    left = ours[: len(positive)].mean(0) - ours[len(positive) :].mean(0)
    assert np.linalg.norm(left) < 0.03 * 1e-3


@pytest.mark.parametrize("shrinkage", [True, False])
def test_transport_equals_concept_erasure_with_a_pooled_class(shrinkage):
    """Three groups, as the published sweeps had it: negative, positive, and all rows."""
    positive, negative = classes(80, 120, d=6)
    fitter = QuadraticFitter(6, 3, dtype=torch.float64, shrinkage=shrinkage)
    x, _ = stack(positive, negative)
    for label, rows in enumerate((negative, positive, x.numpy())):
        fitter.update_single(torch.from_numpy(rows), label)
    editor = fitter.editor()
    fit = transport.fit(evidence(positive, negative), shrinkage=shrinkage)
    for sign, target in ((1.0, 1), (-1.0, 0)):
        mean = (negative, positive)[target].mean(0)
        n = (len(negative), len(positive))[target]
        # without shrinkage they divide by n - 1, we by n
        bessel = 1.0 if shrinkage else np.sqrt(n / (n - 1) * (len(x) - 1) / len(x))
        theirs = (editor.transport(x, 2, target).numpy() - mean) / bessel + mean
        np.testing.assert_allclose(apply(fit, x.numpy(), sign), theirs, atol=1e-4)


def test_transport_between_classes_equals_concept_erasure():
    positive, negative = classes(80, 120, d=6, gap=6.0)
    fitter = QuadraticFitter(6, 2, dtype=torch.float64)
    fitter.update_single(torch.from_numpy(negative), 0)
    fitter.update_single(torch.from_numpy(positive), 1)
    theirs = fitter.editor().transport(torch.from_numpy(negative), 0, 1).numpy()
    fit = gated_transport.fit(evidence(positive, negative))
    taken = negative @ fit.tensors["lda"][0] <= fit.scalars["lda_threshold"]
    assert taken.sum() > 100
    np.testing.assert_allclose(apply(fit, negative, 1.0)[taken], theirs[taken], atol=1e-3)


def test_the_direction_of_the_published_gate_is_ours_up_to_scale():
    """Theirs is the right factor of a LEACE fit, on the total covariance; ours on that within the classes."""
    positive, negative = classes()
    x, z = stack(positive, negative)
    theirs = LeaceFitter.fit(x, z, shrinkage=False).eraser.proj_right.numpy().squeeze()
    ours = gated_transport.fit(evidence(positive, negative), shrinkage=False).tensors["lda"][0].astype(float)
    assert abs(theirs @ ours) / np.linalg.norm(theirs) / np.linalg.norm(ours) == pytest.approx(1.0, abs=1e-6)


def test_shrinkage_equals_concept_erasure_where_theirs_stays_in_range_and_ours_stops_at_the_end():
    rng = np.random.default_rng(0)
    wide = rng.normal(size=(50, 8)) * np.arange(1.0, 9.0)
    covariance = np.cov(wide.T, ddof=0)
    theirs = optimal_linear_shrinkage(torch.from_numpy(covariance), 50).numpy()
    shrunk, weight = linalg.shrink(covariance, 50)
    assert 0.0 < weight < 1.0
    np.testing.assert_allclose(shrunk, theirs, atol=1e-8)
    noise = rng.normal(size=(8, 8))
    covariance = np.eye(8) + 0.01 * (noise + noise.T)  # nearly equal variances
    theirs = optimal_linear_shrinkage(torch.from_numpy(covariance), 50).numpy()
    shrunk, weight = linalg.shrink(covariance, 50)
    assert weight == 1.0
    np.testing.assert_allclose(shrunk, np.trace(covariance) / 8 * np.eye(8))
    assert theirs[0, 1] * covariance[0, 1] < 0.0  # beyond the end the covariances change sign
