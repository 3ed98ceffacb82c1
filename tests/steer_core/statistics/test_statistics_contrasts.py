import math

import numpy as np
import pytest
from scipy.stats import norm

from steer_core.statistics import paired_contrast, slope_through_origin, smallest_effect
from steer_core.statistics.power import design_effect


def rng(seed=0):
    return np.random.default_rng(seed)


def test_a_paired_contrast_counts_only_pairs_with_both_sides():
    values = np.array([1.0, 2.0, math.nan, 4.0])
    controls = np.array([2.0, 2.0, 5.0, math.nan])
    found = paired_contrast(values, controls, np.array(["a", "b", "a", "b"]), draws=50, rng=rng())
    assert (found.value, found.control_value, found.difference) == (1.5, 2.0, -0.5)
    assert found.relative == pytest.approx(-0.25)
    assert found.share_better == 0.5  # the tie is not better
    assert (found.n, found.n_clusters) == (2, 2)


def test_what_makes_a_text_hard_cancels_in_a_paired_contrast():
    generator = rng(1)
    clusters = np.repeat(np.arange(25), 8)
    hardness = generator.normal(0, 1, 25)[clusters]
    controls = hardness + generator.normal(0, 0.05, 200)
    values = hardness - 0.1 + generator.normal(0, 0.05, 200)
    found = paired_contrast(values, controls, clusters, draws=500, rng=rng())
    assert found.low < -0.1 < found.high < 0.0
    assert found.high - found.low < 0.05  # against an SD of 1 between texts


def test_a_control_of_zero_has_no_relative_difference():
    found = paired_contrast(np.ones(4), np.zeros(4), np.arange(4), draws=20, rng=rng())
    assert found.difference == 1.0
    assert found.relative is None


def test_no_pair_gives_nulls_and_one_text_gives_no_interval():
    empty = paired_contrast(np.array([math.nan]), np.array([1.0]), np.array([0]), draws=20, rng=rng())
    assert empty.n == 0
    assert {empty.value, empty.difference, empty.low, empty.relative, empty.share_better} == {None}
    single = paired_contrast(np.array([1.0, 2.0]), np.zeros(2), np.zeros(2), draws=20, rng=rng())
    assert (single.difference, single.low, single.high) == (1.5, None, None)


def test_unequal_lengths_are_refused():
    with pytest.raises(ValueError, match="pair them by request"):
        paired_contrast(np.ones(3), np.ones(2), np.arange(3), draws=20, rng=rng())
    with pytest.raises(ValueError, match="pair them by request"):
        slope_through_origin(np.ones(3), np.ones(2), np.arange(3), draws=20, rng=rng())


def test_the_slope_is_that_of_least_squares_without_intercept():
    x, y = rng(2).normal(size=40), rng(3).normal(size=40)
    x[3] = y[7] = math.nan
    found = slope_through_origin(x, y, np.arange(40) % 6, draws=200, rng=rng())
    both = ~np.isnan(x + y)
    assert found.slope == pytest.approx(np.linalg.lstsq(x[both][:, None], y[both], rcond=None)[0][0])
    assert found.correlation == pytest.approx(np.corrcoef(x[both], y[both])[0, 1])
    assert found.low < found.slope < found.high
    assert found.n == 38


def test_the_interval_of_a_slope_equals_that_of_resamples_written_out():
    x, y, clusters = rng(4).normal(size=30), rng(5).normal(size=30), np.arange(30) % 5
    found = slope_through_origin(x, y, clusters, draws=100, rng=rng(9))
    slopes = []
    for draw in rng(9).multinomial(5, [0.2] * 5, size=100):
        rows = np.repeat(np.arange(30), draw[clusters])
        slopes.append((x[rows] @ y[rows]) / (x[rows] @ x[rows]))
    np.testing.assert_allclose([found.low, found.high], np.quantile(slopes, [0.025, 0.975]))


def test_a_constant_has_no_correlation_and_no_request_no_slope():
    constant = slope_through_origin(np.linspace(-1, 1, 6), np.full(6, 0.1), np.arange(6), draws=20, rng=rng())
    assert constant.correlation is None
    assert constant.slope == pytest.approx(0.0, abs=1e-12)
    nothing = slope_through_origin(np.zeros(6), np.ones(6), np.arange(6), draws=20, rng=rng())
    assert (nothing.slope, nothing.low, nothing.n) == (None, None, 6)
    empty = slope_through_origin(np.empty(0), np.empty(0), np.empty(0), draws=20, rng=rng())
    assert (empty.slope, empty.n, empty.n_clusters) == (None, 0, 0)


def test_the_smallest_effect_is_found_in_eighty_percent_of_simulated_probes():
    effect = smallest_effect(40, 6, sd=0.3, icc=0.25)
    generator, trials = rng(6), 1500
    between, within = 0.3 * math.sqrt(0.25), 0.3 * math.sqrt(0.75)
    means = effect + generator.normal(0, between, (trials, 40)) + generator.normal(0, within, (trials, 40, 6)).mean(2)
    z = means.mean(1) / (means.std(1, ddof=1) / math.sqrt(40))
    assert np.mean(np.abs(z) > norm.ppf(0.975)) == pytest.approx(0.8, abs=0.04)


def test_the_smallest_effect_by_hand():
    # independent pairs: (1.95996 + 0.84162) * 1 / sqrt(100)
    assert smallest_effect(100, 1, sd=1.0, icc=0.0) == pytest.approx(0.280158, abs=1e-5)
    assert design_effect(32, 0.2) == pytest.approx(7.2)
    assert smallest_effect(100, 32, sd=1.0, icc=1.0) == pytest.approx(smallest_effect(100, 1, sd=1.0, icc=0.0))


def test_more_texts_detect_more_than_more_requests_on_the_same_texts():
    assert smallest_effect(128, 16) < smallest_effect(64, 32) < smallest_effect(64, 16)


@pytest.mark.parametrize(
    "arguments", [(0, 4), (4, 0), (4, 4, -1.0), (4, 4, 1.0, 1.5)], ids=["texts", "requests", "sd", "icc"]
)
def test_impossible_designs_are_refused(arguments):
    with pytest.raises(ValueError):
        smallest_effect(*arguments)


def test_impossible_error_rates_are_refused():
    with pytest.raises(ValueError, match="power"):
        smallest_effect(4, 4, power=1.0)
