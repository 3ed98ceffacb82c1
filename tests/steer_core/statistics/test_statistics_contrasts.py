import math

import numpy as np
import pytest
from scipy.stats import binomtest, norm
from scipy.stats import t as student

from steer_core.statistics import (
    LEVEL,
    clustered_mean,
    clustered_share,
    least_controls,
    paired_contrast,
    rank_p,
    slope_within,
    smallest_effect,
    smallest_listener,
)
from steer_core.statistics.power import design_effect


def rng(seed=0):
    return np.random.default_rng(seed)


def test_a_paired_contrast_counts_only_pairs_with_both_sides():
    values = np.array([1.0, 2.0, math.nan, 4.0])
    controls = np.array([2.0, 2.0, 5.0, math.nan])
    found = paired_contrast(values, controls, np.array(["a", "b", "a", "b"]))
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
    found = paired_contrast(values, controls, clusters)
    assert found.low < -0.1 < found.high < 0.0
    assert found.high - found.low < 0.05  # against an SD of 1 between texts


def test_a_control_of_zero_has_no_relative_difference():
    found = paired_contrast(np.ones(4), np.zeros(4), np.arange(4))
    assert found.difference == 1.0
    assert found.relative is None


def test_no_pair_gives_nulls_and_one_text_gives_no_interval():
    empty = paired_contrast(np.array([math.nan]), np.array([1.0]), np.array([0]))
    assert empty.n == 0
    assert {empty.value, empty.difference, empty.low, empty.relative, empty.share_better} == {None}
    single = paired_contrast(np.array([1.0, 2.0]), np.zeros(2), np.zeros(2))
    assert (single.difference, single.low, single.high) == (1.5, None, None)


def test_unequal_lengths_are_refused():
    with pytest.raises(ValueError, match="pair them by request"):
        paired_contrast(np.ones(3), np.ones(2), np.arange(3))
    with pytest.raises(ValueError, match="pair them by request"):
        slope_within(np.ones(3), np.ones(2), np.arange(3))


def test_the_slope_is_that_of_least_squares_with_an_intercept_a_text():
    x, y, texts = rng(2).normal(size=40), rng(3).normal(size=40), np.arange(40) % 6
    x[3] = y[7] = math.nan
    found = slope_within(x, y, texts)
    both = ~np.isnan(x + y)
    design = np.column_stack([x[both], *(texts[both] == t for t in range(6))]).astype(float)
    assert found.slope == pytest.approx(np.linalg.lstsq(design, y[both], rcond=None)[0][0])
    assert found.low < found.slope < found.high
    assert (found.n, found.n_clusters) == (38, 6)


def test_the_interval_of_a_slope_is_that_of_a_brute_force_cr2_regression():
    """Bell and McCaffrey 2002 with matrices, clusters of unequal size."""
    generator = rng(4)
    texts = np.repeat(np.arange(9), [2, 3, 4, 5, 6, 2, 3, 4, 8])
    x, y = generator.normal(size=len(texts)), generator.normal(size=len(texts))
    found = slope_within(x, y, texts)
    inside = [texts == t for t in range(9)]
    dx, dy = (v - np.array([v[texts == t].mean() for t in texts]) for v in (x, y))
    share = np.array([(dx[i] ** 2).sum() for i in inside]) / (dx**2).sum()
    slope = dx @ dy / (dx @ dx)
    sums = np.array([dx[i] @ (dy - slope * dx)[i] for i in inside])
    error = np.sqrt((sums**2 / (1 - share)).sum()) / (dx @ dx)
    # variance = sum of squares of linear forms of the clusters' sums; Satterthwaite from its first two moments
    half = np.diag(1 / np.sqrt(1 - share)) @ (np.eye(9) - np.outer(share, np.ones(9)))
    covariance = half @ np.diag(share) @ half.T
    freedom = np.trace(covariance) ** 2 / np.trace(covariance @ covariance)
    width = student.ppf(0.975, freedom) * error
    assert (found.slope, found.low, found.high) == pytest.approx((slope, slope - width, slope + width))


def test_what_ignores_the_request_has_slope_zero_to_the_last_digit():
    generator = rng(5)
    texts = np.repeat(np.arange(20), 6)
    start = generator.random(20)[texts]
    asked = generator.random(120) - start  # moves are drawn to stay in the space
    drift = (0.37 * (0.5 - generator.random(20)) + 0.4 * (0.5 - generator.random(20)))[texts] - 0.3 * start
    found = slope_within(asked, drift, texts)
    assert (found.slope, found.low, found.high) == (0.0, 0.0, 0.0)
    across = np.polyfit(asked, drift, 1)[0]
    assert across > 0.1  # over all rows it would count as obedience


def test_a_constant_has_no_correlation_and_no_request_no_slope():
    constant = slope_within(np.linspace(-1, 1, 6), np.full(6, 0.1), np.arange(6) // 2)
    assert constant.correlation is None
    assert constant.slope == pytest.approx(0.0, abs=1e-12)
    for x in (np.zeros(6), np.arange(6) // 2 * 0.3):  # nothing asked; each text asked for one thing only
        nothing = slope_within(x, rng().normal(size=6), np.arange(6) // 2)
        assert (nothing.slope, nothing.low, nothing.n) == (None, None, 0)
    empty = slope_within(np.empty(0), np.empty(0), np.empty(0))
    assert (empty.slope, empty.n, empty.n_clusters) == (None, 0, 0)


def test_equal_clusters_give_the_textbook_interval_of_their_means():
    values, texts = rng(7).normal(size=60), np.arange(60) % 12
    found = clustered_mean(values, texts)
    means = np.array([values[texts == t].mean() for t in range(12)])
    width = student.ppf(0.975, 11) * means.std(ddof=1) / math.sqrt(12)
    assert (found.low, found.high) == pytest.approx((means.mean() - width, means.mean() + width))


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_a_rate_without_exception_has_the_exact_interval_over_texts(rate):
    found = clustered_share(np.full(48, rate), np.arange(48) % 24)
    missed = 1 - 0.025 ** (1 / 24)
    assert (found.value, found.low, found.high) == pytest.approx(
        (0.0, 0.0, missed) if rate == 0.0 else (1.0, 1.0 - missed, 1.0)
    )
    assert missed == pytest.approx(0.1425, abs=1e-3)


def test_a_share_of_independent_rows_has_the_interval_of_clopper_and_pearson():
    happened = (np.arange(40) < 7).astype(float)
    found = clustered_share(happened, np.arange(40))
    exact = binomtest(7, 40).proportion_ci(method="exact")
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=0.006)


def test_a_rank_is_two_sided_and_needs_enough_controls():
    controls = np.array([-3.0, 1.0, 2.0, math.nan])
    assert rank_p(2.5, controls) == pytest.approx(2 / 4)
    assert rank_p(-3.0, controls) == pytest.approx(2 / 4)  # a tie counts as far
    assert rank_p(4.0, controls) == pytest.approx(1 / 4)
    assert rank_p(math.nan, controls) is None
    assert rank_p(1.0, np.array([])) is None
    assert least_controls() == 19
    assert rank_p(1.0, np.zeros(19)) <= LEVEL < rank_p(1.0, np.zeros(18))


def test_the_smallest_listener_by_hand():
    asked = np.array([[0.5, 0.0], [-0.5, 0.0], [0.0, 0.3], [0.0, -0.3]])
    texts = np.array(["a", "a", "b", "b"])
    spread = 2 * 0.25 + 2 * 0.09
    assert smallest_listener(asked, texts, noise=0.1) == pytest.approx(2.801585 * 0.1 / math.sqrt(spread))
    assert smallest_listener(asked, np.arange(4)) is None


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
