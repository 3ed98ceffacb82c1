import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr
from scipy.stats import t as student

import steer_core.statistics.bootstrap as bootstrap_module
from steer_core.statistics import clustered_estimates, resample_counts, weighted_quantiles

ALL = ("mean", "median", "iqr")


def estimate(values, clusters, statistics=ALL, draws=300, seed=0):
    return clustered_estimates(
        np.asarray(values, float), np.asarray(clusters), statistics, draws=draws, rng=np.random.default_rng(seed)
    )


def naive_replicates(values, clusters, counts):
    """Every resample written out, row by row."""
    labels = np.unique(clusters)
    found = {"median": [], "iqr": []}
    for draw in counts:
        rows = np.concatenate([np.repeat(values[clusters == c], k) for c, k in zip(labels, draw, strict=True)])
        q = np.quantile(rows, [0.25, 0.5, 0.75])
        found["median"].append(q[1])
        found["iqr"].append(q[2] - q[0])
    return {name: np.array(v) for name, v in found.items()}


@pytest.mark.parametrize("lattice", [False, True])
def test_the_interval_equals_that_of_resamples_written_out(lattice, monkeypatch):
    rng = np.random.default_rng(3)
    clusters = np.arange(81) % 9
    values = rng.normal(size=81)
    if lattice:
        values = np.round(values * 2) / 2
    monkeypatch.setattr(bootstrap_module, "BLOCK", 500)  # several blocks
    found = estimate(values, clusters, draws=200)
    counts = resample_counts(len(np.unique(clusters)), 200, np.random.default_rng(0))
    replicates = naive_replicates(values, clusters, counts)
    # of nine equal clusters: t with 8 degrees of freedom, and 9 draws for 8 (Hesterberg 2015)
    reach = math.sqrt(9 / 8) * student.ppf(0.975, 8)
    low, high = np.quantile(replicates["median"], [ndtr(-reach), ndtr(reach)])
    assert (found["median"].low, found["median"].high) == pytest.approx((low, high), abs=1e-12)
    spread, width = found["iqr"].value, reach * replicates["iqr"].std(ddof=1)
    assert (found["iqr"].low, found["iqr"].high) == pytest.approx((max(spread - width, 0), spread + width), abs=1e-9)


def test_the_value_is_the_statistic_of_all_rows():
    values = np.random.default_rng(1).normal(size=31)
    found = estimate(values, np.arange(31) % 5)
    assert found["mean"].value == pytest.approx(values.mean())
    assert found["median"].value == pytest.approx(np.median(values))
    assert found["iqr"].value == pytest.approx(np.subtract(*np.quantile(values, [0.75, 0.25])))
    assert (found["mean"].n, found["mean"].n_clusters) == (31, 5)


@given(
    st.lists(st.tuples(st.floats(-5, 5), st.integers(0, 6)), min_size=1, max_size=25),
    st.lists(st.floats(0, 1), min_size=1, max_size=4),
)
@settings(max_examples=150, deadline=None)
def test_weighted_quantiles_equal_numpy_on_the_repeated_sample(pairs, levels):
    values, counts = np.array([v for v, _ in pairs]), np.array([[c for _, c in pairs], [1] * len(pairs)])
    found = weighted_quantiles(values, counts, levels)
    for row, times in zip(found, counts, strict=True):
        sample = np.repeat(values, times)
        if len(sample):
            np.testing.assert_allclose(row, np.quantile(sample, levels), atol=1e-12)
        else:
            assert np.isnan(row).all()


def test_equal_seeds_give_equal_intervals_whatever_the_order_of_rows():
    rng = np.random.default_rng(5)
    values, clusters = rng.normal(size=60), np.array([f"text-{i % 7}" for i in range(60)])
    order = rng.permutation(60)
    one, other = estimate(values, clusters), estimate(values[order], clusters[order])
    for name in ALL:
        assert one[name].low == pytest.approx(other[name].low, abs=1e-12)
        assert one[name].high == pytest.approx(other[name].high, abs=1e-12)
    assert estimate(values, clusters) == one
    assert estimate(values, clusters, seed=1)["iqr"].low != one["iqr"].low
    assert estimate(values, clusters, seed=1)["mean"] == one["mean"]  # nothing is drawn


def test_a_statistic_does_not_depend_on_which_others_are_asked_for():
    values, clusters = np.random.default_rng(2).normal(size=40), np.arange(40) % 8
    assert estimate(values, clusters)["iqr"] == estimate(values, clusters, ("iqr",))["iqr"]


@pytest.mark.parametrize(
    ("values", "clusters", "n", "n_clusters"),
    [([], [], 0, 0), ([math.nan, math.nan], [0, 1], 0, 0), ([1.0, 2.0], [0, 0], 2, 1), ([1.0, math.nan], [0, 1], 1, 1)],
)
def test_degenerate_samples_have_no_interval(values, clusters, n, n_clusters):
    for found in estimate(values, clusters).values():
        assert (found.low, found.high, found.n, found.n_clusters) == (None, None, n, n_clusters)
        assert (found.value is None) == (n == 0)


def test_undefined_rows_are_left_out_and_so_are_texts_without_any_other():
    values = np.array([1.0, 2.0, math.nan, 4.0, math.nan])
    found = estimate(values, [0, 0, 1, 2, 2])["mean"]
    assert found.value == pytest.approx(7 / 3)
    assert (found.n, found.n_clusters) == (3, 2)


def test_a_constant_has_an_interval_without_width():
    found = estimate([0.25] * 12, np.arange(12) % 4)
    assert (found["mean"].low, found["mean"].high) == (0.25, 0.25)
    assert (found["iqr"].low, found["iqr"].high) == (0.0, 0.0)


def test_every_draw_has_as_many_texts_as_the_sample():
    counts = resample_counts(17, 50, np.random.default_rng(0))
    assert counts.shape == (50, 17)
    assert (counts.sum(axis=1) == 17).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"clusters": np.arange(2)}, "one label a value"),
        ({"draws": 0}, "at least one"),
        ({"level": 1.0}, "between 0 and 1"),
    ],
)
def test_bad_arguments_are_refused_in_words(arguments, message):
    settings_ = {"clusters": np.arange(3), "draws": 10, "level": 0.95, **arguments}
    with pytest.raises(ValueError, match=message):
        clustered_estimates(np.zeros(3), settings_.pop("clusters"), ["mean"], rng=np.random.default_rng(0), **settings_)
