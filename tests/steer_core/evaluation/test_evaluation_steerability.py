import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from steer_core.evaluation.controls import permutation_p, permuted_error, worst_error, worst_miscalibration
from steer_core.evaluation.steerability import (
    continuous_scores,
    decompose,
    fill_inactive,
    moves,
    published_scores,
)

NAN = math.nan
# coordinates on a grid of 1/1000: differences are either 0 or far from rounding
coordinate = st.integers(0, 1000).map(lambda i: i / 1000)


@st.composite
def worlds(draw):
    """Starts, targets (some inactive) and outcomes, [n, d]."""
    shape = (draw(st.integers(1, 6)), draw(st.integers(1, 4)))
    z0, z_star, z_hat = (draw(arrays(float, shape, elements=coordinate)) for _ in range(3))
    inactive = draw(arrays(bool, shape))
    return z0, np.where(inactive, NAN, z_star), z_hat


def one(z0, z_star, z_hat, scores=continuous_scores):
    found = scores(*(np.array([v], float) for v in (z0, z_star, z_hat)))
    return {name: float(column[0]) for name, column in vars(found).items()}


def test_scores_by_hand():
    # r = (.4, 0), m = (.2, .15), e = (.2, -.15)
    found = one([0.1, 0.5], [0.5, NAN], [0.3, 0.65])
    assert found["requested"] == pytest.approx(0.4)
    assert found["moved"] == pytest.approx(0.25)
    assert found["error"] == pytest.approx(0.25)
    assert found["miscalibration"] == pytest.approx(0.5)
    assert found["orthogonality"] == pytest.approx(0.15 / 0.25)
    assert found["sensitivity"] == pytest.approx(0.625)
    assert found["directionality"] == pytest.approx(0.8)
    assert found["score"] == pytest.approx(0.5)


@given(worlds())
@settings(max_examples=100, deadline=None)
def test_squared_error_is_along_plus_off_axis(world):
    made = moves(*world)
    error, miscalibration, orthogonality = decompose(made.e, made.r, made.m)
    asked, moved = np.linalg.norm(made.r, axis=1), np.linalg.norm(made.m, axis=1)
    # with nothing asked there is no axis: all of the error is off it
    np.testing.assert_allclose(error**2, (miscalibration * asked) ** 2 + (orthogonality * moved) ** 2, atol=1e-12)


@given(worlds())
@settings(max_examples=100, deadline=None)
def test_scores_equal_a_loop_over_rows(world):
    found = continuous_scores(*world)
    for i, (a, b, c) in enumerate(zip(*world, strict=True)):
        target = [s if math.isnan(t) else t for s, t in zip(a, b, strict=True)]
        r, m, e = ([q - p for p, q in zip(x, y, strict=True)] for x, y in ((a, target), (a, c), (c, target)))
        rr, mm, er = (sum(p * q for p, q in zip(x, y, strict=True)) for x, y in ((r, r), (m, m), (e, r)))
        mr = sum(p * q for p, q in zip(m, r, strict=True))
        assert found.error[i] == pytest.approx(math.hypot(*e), abs=1e-12)
        if rr:
            off = math.hypot(*(p - er / rr * q for p, q in zip(e, r, strict=True)))
            assert found.miscalibration[i] == pytest.approx(abs(er) / rr, abs=1e-9)
            assert found.orthogonality[i] == pytest.approx(off / math.sqrt(mm) if mm else 0.0, abs=1e-9)
            assert found.score[i] == pytest.approx(mr / rr, abs=1e-9)
        else:
            assert found.miscalibration[i] == 0.0
            assert found.orthogonality[i] == (1.0 if mm else 0.0)
            assert math.isnan(found.score[i])
            assert math.isnan(found.sensitivity[i])


@given(worlds())
@settings(max_examples=60, deadline=None)
def test_the_score_of_2024_is_sensitivity_times_directionality(world):
    found = continuous_scores(*world)
    both = ~np.isnan(found.directionality)
    np.testing.assert_allclose((found.sensitivity * found.directionality)[both], found.score[both], atol=1e-9)


@given(worlds(), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_neither_the_order_of_goals_nor_a_mirrored_goal_changes_a_score(world, random):
    d = world[0].shape[1]
    order = random.sample(range(d), d)
    mirror = np.array([random.random() < 0.5 for _ in range(d)])
    changed = [np.where(mirror, 1.0 - part, part)[:, order] for part in world]
    before, after = continuous_scores(*world), continuous_scores(*changed)
    for name, column in vars(before).items():
        np.testing.assert_allclose(getattr(after, name), column, atol=1e-9, err_msg=name)


@given(worlds())
@settings(max_examples=100, deadline=None)
def test_a_copy_scores_its_closed_form_exactly(world):
    z0, z_star, _ = world
    found = continuous_scores(z0, z_star, z0.copy())
    asked = np.linalg.norm(fill_inactive(z0, z_star) - z0, axis=1)
    np.testing.assert_allclose(found.error, asked, atol=1e-15)
    np.testing.assert_array_equal(found.miscalibration, (asked > 0).astype(float))
    assert (found.orthogonality == 0.0).all()
    assert (found.moved == 0.0).all()


@given(worlds())
@settings(max_examples=100, deadline=None)
def test_reaching_the_target_leaves_no_error(world):
    z0, z_star, _ = world
    found = continuous_scores(z0, z_star, fill_inactive(z0, z_star))
    for column in (found.error, found.miscalibration, found.orthogonality):
        np.testing.assert_allclose(column, 0.0, atol=1e-6)


def test_with_nothing_asked_staying_is_perfect_and_moving_is_all_off_axis():
    stay, move = one([0.2, 0.4], [NAN, NAN], [0.2, 0.4]), one([0.2, 0.4], [NAN, 0.4], [0.2, 0.5])
    assert (stay["error"], stay["miscalibration"], stay["orthogonality"]) == (0.0, 0.0, 0.0)
    assert (move["miscalibration"], move["orthogonality"]) == (0.0, 1.0)
    assert move["error"] == pytest.approx(0.1)
    assert all(math.isnan(stay[name]) for name in ("sensitivity", "directionality", "score"))


def test_overshoot_and_undershoot_of_equal_size_are_equally_miscalibrated():
    under, over = one([0.0], [0.4], [0.3]), one([0.0], [0.4], [0.5])
    assert under["miscalibration"] == pytest.approx(over["miscalibration"]) == pytest.approx(0.25)
    assert one([0.5], [0.9], [0.1])["miscalibration"] == pytest.approx(2.0)  # the wrong way


def test_an_undefined_goal_leaves_the_row_without_a_score():
    found = one([0.2, 0.4], [0.5, NAN], [0.5, NAN])
    assert found.pop("requested") == pytest.approx(0.3)
    assert all(math.isnan(v) for v in found.values())


def test_published_epsilons_bend_the_copy_and_little_else():
    z0, z_star = np.full((1, 2), 0.5), np.array([[0.9, NAN]])
    copy = published_scores(z0, z_star, z0)
    # off-axis |e| 1e-8 / (r.r + 1e-8) over 1e-4 |r|
    assert copy.orthogonality[0] == pytest.approx(1e-8 / 0.16 / 1e-4, rel=1e-3)
    z_hat = np.array([[0.7, 0.6]])
    exact, published = continuous_scores(z0, z_star, z_hat), published_scores(z0, z_star, z_hat)
    assert published.miscalibration[0] == pytest.approx(exact.miscalibration[0], rel=1e-6)
    assert published.orthogonality[0] == pytest.approx(exact.orthogonality[0], rel=1e-3)


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        continuous_scores(np.zeros((2, 3)), np.zeros((2, 3)), np.zeros((2, 2)))


@given(worlds(), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_no_outcome_is_worse_than_the_worst(world, seed):
    z0, z_star, _ = world
    d = z0.shape[1]
    corners = np.array(np.meshgrid(*[[0.0, 1.0]] * d)).reshape(d, -1).T
    inside = np.random.default_rng(seed).random((20, d))
    by_corner = [continuous_scores(z0, z_star, np.tile(c, (len(z0), 1))) for c in corners]
    np.testing.assert_allclose(worst_error(z0, z_star), np.max([s.error for s in by_corner], axis=0))
    np.testing.assert_allclose(
        worst_miscalibration(z0, z_star), np.max([s.miscalibration for s in by_corner], axis=0), rtol=1e-9
    )
    for point in inside:
        scores = continuous_scores(z0, z_star, np.tile(point, (len(z0), 1)))
        assert (scores.error <= worst_error(z0, z_star) + 1e-12).all()
        assert (scores.miscalibration <= worst_miscalibration(z0, z_star) * (1 + 1e-9) + 1e-12).all()


TEXTS = np.array(["a", "a", "a", "b", "b", "c", "a"])


def test_permuted_error_equals_a_loop_over_the_requests_on_the_text():
    rng = np.random.default_rng(0)
    starts = {t: rng.random(3) for t in "abc"}
    z0, z_hat = np.array([starts[t] for t in TEXTS]), rng.random((7, 3))
    z_star = np.where(rng.random((7, 3)) < 0.5, rng.random((7, 3)), NAN)
    found = permuted_error(z0, z_star, z_hat, TEXTS)
    for i in range(7):
        asked = [j for j in range(7) if TEXTS[j] == TEXTS[i]]
        targets = [[z0[j, k] if math.isnan(z_star[j, k]) else z_star[j, k] for k in range(3)] for j in asked]
        expected = np.mean([math.dist(t, z_hat[i]) for t in targets]) if len(asked) > 1 else NAN
        np.testing.assert_allclose(found[i], expected)


def test_a_failed_row_has_no_chance_level_and_lends_its_target_to_nobody():
    z0, z_star = np.zeros((3, 2)), np.array([[0.5, NAN], [1.0, 1.0], [0.25, NAN]])
    z_hat = np.array([[0.5, 0.0], [NAN, 0.5], [0.5, 0.0]])
    found = permuted_error(z0, z_star, z_hat, np.array(["t", "t", "t"]))
    np.testing.assert_allclose(found, [0.125, NAN, 0.125])


def test_the_rank_of_the_pairing_is_that_among_all_orders_within_texts():
    rng = np.random.default_rng(2)
    texts = np.repeat(["a", "b"], 3)
    z0 = np.repeat(rng.random((2, 2)), 3, axis=0)
    z_star, z_hat = rng.random((6, 2)), rng.random((6, 2))

    def error(order):
        return np.linalg.norm(z_star[list(order)] - z_hat, axis=1).sum()

    orders = [(*a, *b) for a in itertools.permutations(range(3)) for b in itertools.permutations(range(3, 6))]
    exact = np.mean([error(o) <= error(range(6)) + 1e-12 for o in orders])
    found = permutation_p(z0, z_star, z_hat, texts, permutations=4000, rng=rng)
    assert found == pytest.approx(exact, abs=0.03)


def test_answers_that_ignore_the_request_have_rank_one_and_single_requests_none():
    z0, z_star = np.full((6, 2), 0.5), np.random.default_rng(0).random((6, 2))
    deaf = np.full((6, 2), 0.61)
    rng = np.random.default_rng(1)
    assert permutation_p(z0, z_star, deaf, np.repeat(["a", "b"], 3), permutations=50, rng=rng) == 1.0
    assert permutation_p(z0, z_star, deaf, np.arange(6), permutations=50, rng=rng) is None
    with pytest.raises(ValueError, match="at least one"):
        permutation_p(z0, z_star, deaf, np.arange(6), permutations=0, rng=rng)
