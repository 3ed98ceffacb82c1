"""Calibration of attribute models: figures by hand, and intervals in simulated worlds."""

import numpy as np
import pytest

from schemas.steerlm import AttributeSet
from steer_core.adapters.steerlm.calibration import attribute_scores, calibration_table, r_squared

ONE = AttributeSet.of("quality", high=2)
TWO = AttributeSet.of("quality", "humor", high=2)


def scores(predicted, true, attributes=ONE, clusters=None, draws=200):
    n = len(predicted)
    groups = np.arange(n) if clusters is None else np.array(clusters)
    rng = np.random.default_rng(0)
    return attribute_scores(np.array(predicted), np.array(true), attributes, groups, draws=draws, rng=rng)


def test_figures_are_those_worked_out_by_hand():
    predicted = [[0.2], [0.4], [1.2], [1.4], [2.6]]
    true = [[0.0], [1.0], [1.0], [1.0], [2.0]]
    found = scores(predicted, true)[0]
    error = 0.04 + 0.36 + 0.04 + 0.16 + 0.36
    assert found.r_squared.value == pytest.approx(1 - error / 2.0)
    assert found.mae.value == pytest.approx((0.2 + 0.6 + 0.2 + 0.4 + 0.6) / 5)
    assert found.exact.value == pytest.approx(4 / 5)
    # level 0: .3 against .5; level 1: 1.3 against 1; level 2: 2.6 against 2
    assert found.calibration_error == pytest.approx((2 * 0.2 + 2 * 0.3 + 1 * 0.6) / 5)


def test_tables_bin_by_what_was_predicted_or_by_what_is_true():
    predicted, true = np.array([[0.2], [0.4], [1.2]]), np.array([[0.0], [1.0], [1.0]])
    by = {b: calibration_table(predicted, true, ONE, np.arange(3), by=b) for b in ("predicted", "true")}
    assert [(r.level, r.predicted.n) for r in by["predicted"]] == [(0, 2), (1, 1), (2, 0)]
    assert by["predicted"][0].predicted.value == pytest.approx(0.3)
    assert by["predicted"][0].true.value == pytest.approx(0.5)
    assert by["predicted"][0].gap.value == pytest.approx(-0.2)
    assert by["predicted"][2].gap.value is None
    assert [(r.level, r.predicted.n) for r in by["true"]] == [(0, 1), (1, 2), (2, 0)]
    assert by["true"][1].predicted.value == pytest.approx(0.8)


def test_what_is_not_known_is_left_out_attribute_by_attribute():
    predicted = [[0.0, 1.0], [1.0, 5.0], [2.0, 2.0]]
    found = scores(predicted, [[0.0, 1.0], [1.0, np.nan], [2.0, np.nan]], TWO)
    assert (found[0].r_squared.value, found[0].mae.n) == (pytest.approx(1.0), 3)
    # one text has no spread
    assert (found[1].r_squared.value, found[1].mae.value, found[1].mae.n) == (None, 0.0, 1)
    none = scores([[0.0]], [[np.nan]])[0]
    assert (none.mae.value, none.calibration_error, none.r_squared.n) == (None, None, 0)


def test_the_mean_has_r_squared_zero_and_worse_is_below():
    true = np.array([0.0, 1, 2, 1])
    draw = {"draws": 50, "rng": np.random.default_rng(0)}
    assert r_squared(np.full(4, 1.0), true, np.arange(4), **draw).value == pytest.approx(0.0)
    assert r_squared(2 - true, true, np.arange(4), **draw).value < 0


def test_a_perfect_model_has_a_small_error_by_chance_and_a_shifted_one_its_shift():
    rng = np.random.default_rng(0)
    level = rng.integers(0, 3, 4000).astype(float)
    right = level + rng.uniform(-0.4, 0.4, 4000)
    assert scores(right[:, None], level[:, None])[0].calibration_error < 0.02
    inside = np.full(4000, 1.0)
    assert scores((inside + 0.3)[:, None], inside[:, None])[0].calibration_error == pytest.approx(0.3)


def test_intervals_of_r_squared_hold_the_true_value_about_as_often_as_they_say():
    held, rng = 0, np.random.default_rng(1)
    worlds = 200
    for _ in range(worlds):
        # groups of four texts share a part of their error
        shared = np.repeat(rng.normal(0, 0.5, 40), 4)
        true = rng.normal(0, 1, 160)
        predicted = true + shared + rng.normal(0, 0.5, 160)
        found = r_squared(predicted, true, np.repeat(np.arange(40), 4), draws=200, rng=rng)
        held += found.low <= 1 - 0.5 <= found.high
    assert 0.89 <= held / worlds <= 0.99


def test_arguments_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="shapes"):
        scores([[0.0, 1.0]], [[0.0]])
    with pytest.raises(ValueError, match="finite"):
        scores([[np.nan]], [[0.0]])
    with pytest.raises(ValueError, match="draws"):
        scores([[0.0]], [[0.0]], draws=0)
