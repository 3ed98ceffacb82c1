"""Affine edits: what is equal after them, what moves least, and where a coefficient puts the activations."""

import numpy as np
import pytest
from estimator_world import apply, classes, evidence
from hypothesis import given, settings
from hypothesis import strategies as st

from steer_core.steering.strength import Strength, coefficient
from steer_core.steering.vector import SteeringVector
from steer_core.tables.errors import SteerworksError
from steer_core.vectors.estimators import ace, leace, orthogonal

worlds = st.builds(
    classes,
    n_positive=st.integers(15, 60),
    n_negative=st.integers(15, 60),
    d=st.integers(2, 10),
    seed=st.integers(0, 10_000),
)


@settings(max_examples=25, deadline=None)
@given(worlds)
def test_after_leace_the_class_means_are_equal_at_every_coefficient(world):
    positive, negative = world
    data = evidence(positive, negative)
    gap = np.linalg.norm(positive.mean(0) - negative.mean(0))
    for options in ({}, {"shrinkage": False}):
        fit = leace.fit(data, **options)
        for c in (0.0, -1.5):
            edited = apply(fit, positive, c).mean(0) - apply(fit, negative, c).mean(0)
            assert np.linalg.norm(edited) < 1e-4 * gap


@settings(max_examples=25, deadline=None)
@given(worlds, st.floats(-2, 2))
def test_after_leace_the_probe_score_of_every_row_is_that_of_the_center_plus_the_shift(world, m):
    positive, negative = world
    rows = np.vstack([positive, negative])
    fit = leace.fit(evidence(positive, negative))
    probe = fit.tensors["right"][0].astype(float)
    scores = apply(fit, rows, m) @ probe
    expected = probe @ rows.mean(0) + m * float(probe @ fit.tensors["direction"][0])
    np.testing.assert_allclose(scores, expected, atol=1e-3 * (1 + np.abs(rows @ probe).max()))


def test_no_affine_map_that_equalises_the_means_moves_the_rows_less():
    positive, negative = classes()
    rows = np.vstack([positive, negative])
    fit = leace.fit(evidence(positive, negative), shrinkage=False)
    ours = ((apply(fit, rows, 0.0) - rows) ** 2).sum(1).mean()
    direction = positive.mean(0) - negative.mean(0)
    center = rows.mean(0)
    rng = np.random.default_rng(5)
    d = rows.shape[1]
    best = float(fit.tensors["right"][0] @ direction)
    assert best == pytest.approx(1.0, abs=1e-5)
    moves = []
    for size in np.repeat([1e-3, 1e-2, 0.1, 1.0], 50):
        # E(x) = x - (D w^T + Z)(x - mu) + b with Z D = 0 is every affine map that makes the means equal
        z = size * rng.normal(size=(d, d))
        z -= np.outer(z @ direction, direction) / (direction @ direction)
        edit = np.outer(direction, fit.tensors["right"][0].astype(float)) + z
        moved = (rows - center) @ edit.T + size * rng.normal(size=d)
        after = rows - moved
        assert np.allclose(after[: len(positive)].mean(0), after[len(positive) :].mean(0), atol=1e-4)
        moves.append((moved**2).sum(1).mean())
    assert min(moves) > ours
    orth = apply(orthogonal.fit(evidence(positive, negative)), rows, 0.0)
    assert ((orth - rows) ** 2).sum(1).mean() > ours


@settings(max_examples=40, deadline=None)
@given(worlds, st.floats(0.01, 100.0))
def test_leace_never_raises_the_total_variance(world, stretch):
    positive, negative = world
    positive, negative = positive.copy(), negative.copy()
    positive[:, 0] *= stretch  # slanted, elongated clouds, where an oblique projection could
    negative[:, 0] *= stretch
    rows = np.vstack([positive, negative])
    for options in ({}, {"shrinkage": False}):
        edited = apply(leace.fit(evidence(positive, negative), **options), rows, 0.0)
        assert edited.var(axis=0).sum() <= rows.var(axis=0).sum() * (1 + 1e-5)


def test_leace_works_with_fewer_rows_than_dimensions():
    positive, negative = classes(6, 7, d=40)
    data = evidence(positive, negative)
    for options in ({}, {"shrinkage": False}):
        fit = leace.fit(data, **options)
        gap = apply(fit, positive, 0.0).mean(0) - apply(fit, negative, 0.0).mean(0)
        assert np.linalg.norm(gap) < 1e-4
    assert 0.0 < leace.fit(data).scalars["shrinkage"] <= 1.0


@pytest.mark.parametrize("module", [orthogonal, leace, ace])
@pytest.mark.parametrize("gap", [1.0, 1e-2, 1e-4])
def test_a_small_difference_is_still_erased(module, gap):
    """No absolute threshold under which the eraser turns into the identity."""
    positive, negative = classes(40, 40, gap=0.0)
    positive += negative.mean(0) - positive.mean(0) + gap * np.eye(12)[0]
    fit = module.fit(evidence(positive, negative))
    left = apply(fit, positive, 0.0).mean(0) - apply(fit, negative, 0.0).mean(0)
    assert np.linalg.norm(left) < 1e-2 * gap
    assert np.abs(apply(fit, positive, 0.0) - positive).max() > 0.1


@settings(max_examples=25, deadline=None)
@given(worlds, st.floats(-2, 2))
def test_orthogonal_with_m_equals_ace_with_a_equal_m_plus_the_share_of_positives(world, m):
    positive, negative = world
    data = evidence(positive, negative)
    rows = np.vstack([positive, negative])
    np.testing.assert_allclose(
        apply(orthogonal.fit(data), rows, m),
        apply(ace.fit(data), rows, m + data.positive_share),
        atol=1e-4,
    )


@settings(max_examples=25, deadline=None)
@given(worlds, st.floats(-1, 2))
def test_ace_is_the_formula_of_the_paper(world, alpha):
    positive, negative = world
    rows = np.vstack([positive, negative])
    r = positive.mean(0) - negative.mean(0)
    projection = np.outer(r, r) / (r @ r)
    by_hand = rows - rows @ projection + projection @ negative.mean(0) + alpha * r
    np.testing.assert_allclose(apply(ace.fit(evidence(positive, negative)), rows, alpha), by_hand, atol=1e-4)


@pytest.mark.parametrize("module", [orthogonal, leace, ace])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_class_alpha_means_the_same_point_for_every_affine_edit(module, alpha):
    positive, negative = classes()
    fit = module.fit(evidence(positive, negative))
    vector = SteeringVector("warmth", fit.operator, 0, fit.tensors, fit.scalars, "m")
    landed = apply(fit, np.vstack([positive, negative]), coefficient(Strength(alpha, "class_alpha"), vector)).mean(0)
    direction = positive.mean(0) - negative.mean(0)
    place = (landed - negative.mean(0)) @ direction / (direction @ direction)
    assert place == pytest.approx(alpha, abs=1e-4)


@pytest.mark.parametrize("operator", ["ablate", "transport", "gated_transport"])
def test_the_class_scale_is_refused_where_a_coefficient_is_no_place_between_the_classes(operator):
    row = {"direction": np.ones((1, 3), dtype=np.float32)}
    vector = SteeringVector("warmth", operator, 0, row, {"positive_share": 0.5}, "m")
    with pytest.raises(SteerworksError, match=f"'class_alpha' does not fit operator '{operator}'"):
        coefficient(Strength(1.0, "class_alpha"), vector)
