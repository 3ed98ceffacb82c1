"""Calibration errors against published values, another implementation, and models that are calibrated."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steer_core.evaluation.profiles.calibration import (
    BINS,
    brier,
    calibration_error,
    confidences,
    reliability_diagram,
)
from steer_core.tables import SteerworksError

SURE = np.array([0.9, 0.8, 0.7, 0.6, 0.55, 0.95, 0.4, 0.5, 0.65, 0.85])
RIGHT = np.array([1, 1, 0, 1, 0, 1, 0, 0, 1, 1], dtype=np.float64)


def error(sure, right, bins, scheme, draws=20, seed=0, **more):
    rng = np.random.default_rng(seed)
    return calibration_error(sure, right, np.arange(len(sure)), bins=bins, scheme=scheme, draws=draws, rng=rng, **more)


@pytest.mark.parametrize(
    ("bins", "scheme", "value"),
    [
        (1, "mass", 0.09),
        (1, "width", 0.09),
        (10, "mass", 0.34),
        (5, "mass", 0.19),
        (10, "width", 0.19),
        (5, "width", 0.15),
    ],
)
def test_known_values(bins, scheme, value):
    assert error(SURE, RIGHT, bins, scheme).estimate.value == pytest.approx(value, abs=1e-12)


def test_the_example_of_the_open_request_in_evaluate():
    sure, right = np.array([0.25, 0.25, 0.75, 0.75]), np.array([0.0, 0.0, 1.0, 1.0])
    for scheme in ("width", "mass"):
        assert error(sure, right, 2, scheme).estimate.value == pytest.approx(0.25)


def by_hand(pairs, bins, scheme):
    """ECE with lists and loops: Guo et al.'s sum over bins (lower, upper]."""
    n, groups = len(pairs), {}
    for sure, right in pairs:
        if scheme == "width":
            at = next(k for k in range(1, bins + 1) if sure <= k / bins)
        else:
            at = sum(other < sure for other, _ in pairs) * bins // n
        groups.setdefault(at, []).append((sure, right))
    return sum(len(g) / n * abs(sum(s for s, _ in g) / len(g) - sum(r for _, r in g) / len(g)) for g in groups.values())


pairs = st.lists(
    st.tuples(st.integers(0, 40).map(lambda v: v / 40), st.sampled_from([0.0, 0.5, 1.0])), min_size=1, max_size=25
)


@given(pairs, st.sampled_from(BINS), st.sampled_from(["width", "mass"]), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_another_implementation_agrees_in_any_order(rows, bins, scheme, random):
    want = by_hand(rows, bins, scheme)
    random.shuffle(rows)
    sure, right = (np.array(v) for v in zip(*rows, strict=True))
    found = error(sure, right, bins, scheme, draws=2)
    assert found.estimate.value == pytest.approx(want, abs=1e-12)
    drawn = reliability_diagram(sure, right, np.arange(len(sure)), bins=bins, scheme=scheme)
    gaps = drawn["n"] / len(sure) * (drawn["confidence"] - drawn["accuracy"]).abs()
    assert gaps.sum() == pytest.approx(want, abs=1e-12)
    assert len(drawn) == found.bins_used


def options(scores, golds):
    n, k = scores.shape
    return pl.DataFrame(
        {
            "item_id": [f"{i:04}" for i in range(n) for _ in range(k)],
            "cluster": [f"{i:04}" for i in range(n) for _ in range(k)],
            "option": list(range(k)) * n,
            "log_likelihood": scores.ravel(),
            "tokens": [1] * (n * k),
            "bytes": [1] * (n * k),
            "unconditional": [0.0] * (n * k),
            "gold": [j == g for g in golds for j in range(k)],
        }
    )


tables = st.lists(
    st.tuples(st.lists(st.integers(-6, 0), min_size=3, max_size=3), st.integers(0, 2)), min_size=1, max_size=8
)


@given(tables)
@settings(max_examples=15, deadline=None)
def test_brier_scores_and_confidences_agree_with_loops(rows):
    table = options(np.array([s for s, _ in rows], dtype=np.float64), [g for _, g in rows])
    every, top, sure, told = [], [], [], []
    for scores, gold in rows:
        z = sum(math.exp(s) for s in scores)
        p = [math.exp(s) / z for s in scores]
        best = [j for j in range(3) if scores[j] == max(scores)]
        every.append(sum((p[j] - (j == gold)) ** 2 for j in range(3)))
        top.append(sum((max(p) - (j == gold)) ** 2 for j in best) / len(best))
        sure.append(max(p))
        told.append(p[gold])
    assert brier(table, "sum", "all").estimate.value == pytest.approx(np.mean(every))
    assert brier(table, "sum", "top").estimate.value == pytest.approx(np.mean(top))
    assert confidences(table, "sum")["confidence"].to_list() == pytest.approx(sure)
    assert confidences(table, "sum", "gold")["confidence"].to_list() == pytest.approx(told)


def test_a_calibrated_model_is_called_miscalibrated_as_often_as_promised():
    """The plug-in is far from 0; the debiased error is nearer, the unbiased square is 0, and 0 is in the interval."""
    rng = np.random.default_rng(3)
    found = []
    for seed in range(150):
        sure = rng.uniform(0.25, 1.0, 120)
        right = (rng.random(120) < sure).astype(np.float64)
        found.append(error(sure, right, 10, "mass", draws=100, seed=seed))
    plugin, less = (np.mean([v(f) for f in found]) for v in (lambda f: f.estimate.value, lambda f: f.debiased))
    assert 0.07 < plugin < 0.11
    assert less < 0.7 * plugin
    squares = np.array([f.squared_debiased for f in found])
    assert abs(squares.mean()) < 4 * squares.std() / np.sqrt(len(found))
    # promised .025 and .05; four standard errors
    assert np.mean([f.estimate.low > 0.0 for f in found]) <= 0.025 + 0.051
    assert np.mean([f.p <= 0.05 for f in found]) <= 0.05 + 0.072


def test_a_model_that_is_too_sure_is_called_so_and_its_error_is_in_the_interval():
    rng = np.random.default_rng(4)
    sure = rng.uniform(0.4, 1.0, 1500)
    found = error(sure, (rng.random(1500) < sure - 0.2).astype(np.float64), 10, "width", draws=200)
    assert found.p == 1 / 201
    assert 0.0 < found.estimate.low < 0.2 < found.estimate.high
    assert found.debiased == pytest.approx(0.2, abs=0.04)


def test_of_a_calibrated_model_the_probability_of_gold_has_an_error():
    rng = np.random.default_rng(5)
    scores = np.log(rng.dirichlet([1.0, 1.0, 1.0], 800))
    golds = [rng.choice(3, p=np.exp(row)) for row in scores]
    by = {}
    for kind in ("max", "gold"):
        rows = confidences(options(scores, golds), "sum", kind)
        by[kind] = error(*(rows[c].to_numpy() for c in ("confidence", "correct")), 10, "mass", kind=kind)
    assert by["max"].estimate.value < 0.06 < 0.15 < by["gold"].estimate.value
    assert by["gold"].p is None


def test_every_choice_is_named_and_a_bin_of_one_item_has_no_debiased_error():
    found = error(SURE, RIGHT, 10, "mass", normalisation="token", level=0.9)
    assert (found.normalisation, found.confidence, found.scheme, found.bins, found.bins_used) == (
        "token", "max", "mass", 10, 10)  # fmt: skip
    assert (found.draws, found.level, found.debiased, found.squared_debiased) == (20, 0.9, None, None)


def test_no_item_is_no_figure_and_one_cluster_no_interval():
    assert error(np.empty(0), np.empty(0), 10, "mass").estimate.value is None
    rng = np.random.default_rng(0)
    one = calibration_error(SURE, RIGHT, np.zeros(10), bins=5, scheme="mass", draws=5, rng=rng)
    assert (one.estimate.low, one.estimate.high) == (None, None)


def test_arguments_that_make_no_sense_are_refused():
    for sure, right, more in (
        (SURE + 1.0, RIGHT, {}), (SURE, RIGHT * 2, {}), (SURE, RIGHT[:3], {}), (SURE, RIGHT, {"bins": 0}),
        (SURE, RIGHT, {"scheme": "even"}), (SURE, RIGHT, {"draws": 0}),
    ):  # fmt: skip
        with pytest.raises(SteerworksError):
            error(sure, right, **({"bins": 5, "scheme": "mass"} | more))
