import gzip
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steer_core.evaluation.binned import CUT_POINTS, bin_of, binned_scores
from steer_core.evaluation.steerability import continuous_scores

NAN = math.nan
GOLDEN = Path(__file__).parents[3] / "steer_core/evaluation/parity/released_probe_deltas.csv.gz"


def bins(z0, v, **options):
    return float(bin_of(np.array([v]), np.array([z0]), **options)[0])


# start, reached, bin, bin as released
EDGES = [
    (0.50, 0.50, 3, 3),  # stays
    (0.00, 0.00, 3, 3),  # stays at the lower bound
    (1.00, 1.00, 3, 7),  # stays at the upper bound: released code counts it as moved by 4/7
    (0.95, 1.00, 3, 7),  # moved .05 up to the bound
    (0.05, 0.00, 3, 3),  # moved .05 down to the bound
    (0.85, 1.00, 4, 7),  # moved .15: slightly more
    (0.60, 1.00, 5, 7),  # moved .40: more
    (0.25, 1.00, 6, 7),  # moved .75: much more
    (0.00, 1.00, 6, 7),  # moved 1: the last bin is closed
    (0.00, 0.99, 6, 6),  # just short of it
    (0.30, 0.45, 4, 4),  # slightly more
    (0.30, 0.55, 5, 5),  # more
    (0.30, 0.85, 6, 6),  # much more
    (0.50, 0.75, 5, 5),  # .25 up
    (0.75, 0.50, 1, 1),  # .25 down
    (0.70, 0.55, 2, 2),  # slightly less
    (0.75, 0.25, 1, 1),  # exactly .5 down is plain: bins are closed below
    (0.25, 0.75, 6, 6),  # exactly .5 up is much
    (0.90, 0.10, 0, 0),  # much less
    (1.00, 0.00, 0, 0),  # the whole range down
]


@pytest.mark.parametrize(("z0", "v", "expected", "released"), EDGES)
def test_bins_by_hand(z0, v, expected, released):
    assert bins(z0, v) == expected
    assert bins(z0, v, saturation_bug=True) == released


def test_binned_scores_by_hand():
    # asked: +2 on the first goal (.3); made: +1 (.15) and, unasked, -1 (.15) on the second
    found = binned_scores(np.array([[0.5, 0.5]]), np.array([[0.8, NAN]]), np.array([[0.65, 0.35]]))
    assert found.error[0] == pytest.approx(math.sqrt(2) / 7)
    assert found.miscalibration[0] == pytest.approx(0.5)
    assert found.orthogonality[0] == pytest.approx(1 / math.sqrt(2))


def test_the_released_code_charges_a_small_step_onto_the_bound_four_sevenths():
    start, end = np.array([[0.95]]), np.array([[1.0]])
    nothing_asked = np.array([[NAN]])
    assert binned_scores(start, nothing_asked, end).error[0] == 0.0
    assert binned_scores(start, nothing_asked, end, saturation_bug=True).error[0] == pytest.approx(4 / 7)


z = st.integers(0, 20).map(lambda i: i / 20)
row = st.tuples(z, z | st.just(NAN), z)


@given(st.lists(st.tuples(row, row, row), min_size=1, max_size=8), st.booleans())
@settings(max_examples=80, deadline=None)
def test_the_error_lies_on_the_lattice_of_sevenths(rows, released):
    z0, z_star, z_hat = np.moveaxis(np.array(rows), 2, 0)
    error = binned_scores(z0, z_star, z_hat, saturation_bug=released).error
    k = (error * 7) ** 2
    np.testing.assert_allclose(k, np.round(k), atol=1e-9)
    assert (k <= 3 * (7 if released else 6) ** 2 + 1e-9).all()


@given(st.lists(st.tuples(row, row), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_a_copy_has_its_closed_form_on_the_lattice_too(rows):
    z0, z_star, _ = np.moveaxis(np.array(rows), 2, 0)
    found = binned_scores(z0, z_star, z0)
    asked = bin_of(np.where(np.isnan(z_star), z0, z_star), z0) - 3
    np.testing.assert_allclose(found.error, np.linalg.norm(asked, axis=1) / 7, atol=1e-12)
    np.testing.assert_allclose(found.miscalibration, np.any(asked != 0, axis=1).astype(float), atol=1e-12)
    assert (found.orthogonality == 0).all()


@given(st.lists(st.tuples(row, row, row), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_off_the_upper_bound_released_and_default_bins_agree(rows):
    z0, z_star, z_hat = np.moveaxis(np.array(rows), 2, 0)
    target = np.minimum(np.where(np.isnan(z_star), z0, z_star), 0.99)
    z0, z_hat = np.minimum(z0, 0.99), np.minimum(z_hat, 0.99)
    for v in (target, z_hat):
        np.testing.assert_array_equal(bin_of(v, z0), bin_of(v, z0, saturation_bug=True))


def test_other_cut_points_make_other_bins_for_all_three_scores():
    coarse = [-1.0, -0.25, 0.25, 1.0]
    z0, z_star, z_hat = np.array([[0.5, 0.5]]), np.array([[0.9, NAN]]), np.array([[0.6, 0.1]])
    found = binned_scores(z0, z_star, z_hat, coarse)
    # r = (1, 0), m = (0, -1), e = (1, 1) in thirds
    assert found.error[0] == pytest.approx(math.sqrt(2) / 3)
    assert found.miscalibration[0] == pytest.approx(1.0)
    assert found.orthogonality[0] == pytest.approx(1.0)


@pytest.mark.parametrize("cuts", [[0.0], [0.1, 0.1, 0.2], [1.0, -1.0]])
def test_cut_points_must_ascend(cuts):
    with pytest.raises(ValueError, match="ascending"):
        bin_of(np.zeros(1), np.zeros(1), cuts)


def test_an_undefined_goal_leaves_no_binned_score():
    found = binned_scores(np.array([[0.5, 0.5]]), np.array([[0.9, NAN]]), np.array([[0.6, NAN]]))
    assert np.isnan([found.error[0], found.miscalibration[0], found.orthogonality[0]]).all()


# --- the released 64 x 32 probe: its requested moves, 2048 rows, empty = inactive -------------------------------------


@pytest.fixture(scope="module")
def deltas():
    """Requested moves of the released probe, [2048, 4]; NaN where inactive."""
    lines = gzip.decompress(GOLDEN.read_bytes()).decode().splitlines()
    assert lines[0].split(",")[1:] == [
        "delta_reading_difficulty",
        "delta_textual_diversity",
        "delta_text_length",
        "delta_formality",
    ]
    return np.array([[float(v) if v else NAN for v in line.split(",")[1:]] for line in lines[1:]])


def test_the_released_probe_has_its_published_counts(deltas):
    active = ~np.isnan(deltas)
    size = np.abs(deltas[active])
    assert deltas.shape == (2048, 4)
    assert (active.sum(axis=1) == 3).all()
    assert [int((~active[:, g]).sum()) for g in (3, 1, 0, 2)] == [532, 512, 504, 500]
    assert (round(size.min(), 4), round(size.max(), 4)) == (0.1001, 0.6995)
    assert [int(((size >= a) & (size < b)).sum()) for a, b in ((0, 0.2), (0.2, 0.5), (0.5, 1))] == [1408, 3411, 1325]


def test_bins_of_the_released_probe_are_its_strength_words(deltas):
    start = np.full(deltas.shape, 0.5)
    step = np.abs(bin_of(start + deltas, start) - 3)
    assert [int((step == k).sum()) for k in (1, 2, 3)] == [1408, 3411, 1325]


def test_opposite_requests_of_the_released_probe_have_their_published_counts(deltas):
    step = np.nan_to_num(bin_of(0.5 + deltas, np.full(deltas.shape, 0.5)) - 3)
    pairs = itertools.combinations(range(4), 2)
    active = ~np.isnan(deltas)
    counts = [int(((step[:, i] + step[:, j] == 0) & active[:, i] & active[:, j]).sum()) for i, j in pairs]
    assert counts == [232, 148, 167, 185, 195, 183]


@pytest.mark.parametrize("epsilons", [False, True])
def test_returning_the_source_scores_as_well_as_published_models(deltas, epsilons):
    """Doing nothing on the released probe: median error .495 (IQR .160), level with half of the published models."""
    start = np.full(deltas.shape, 0.5)
    found = binned_scores(start, start + deltas, start, epsilons=epsilons)
    q1, median, q3 = np.quantile(found.error, [0.25, 0.5, 0.75])
    assert round(median, 4) == 0.4949
    assert round(q3 - q1, 4) == 0.1604
    np.testing.assert_allclose(found.miscalibration, 1.0, atol=1e-6)
    # the released epsilons leave a copy with a trace of orthogonality
    assert found.orthogonality.max() < (2e-3 if epsilons else 1e-15)


def test_the_continuous_error_of_doing_nothing_is_the_length_of_the_request(deltas):
    start = np.full(deltas.shape, 0.5)
    found = continuous_scores(start, start + deltas, start)
    assert round(float(np.median(found.error)), 3) == 0.648
    assert (round(found.error.min(), 2), round(found.error.max(), 2)) == (0.20, 1.15)


def test_medians_repeat_because_the_lattice_is_coarse():
    published = [0.143, 0.202, 0.247, 0.286, 0.319, 0.350, 0.378, 0.404, 0.429, 0.452, 0.474, 0.495, 0.515, 0.535]
    assert [round(math.sqrt(k) / 7, 3) for k in range(1, 15)] == published
    assert len(CUT_POINTS) - 1 == 7
