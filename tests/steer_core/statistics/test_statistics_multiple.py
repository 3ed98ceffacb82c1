"""Many comparisons: exchanges give p-values that hold, Holm's correction is the definition."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steer_core.statistics import exchange_p, holm


def test_holm_of_an_example_worked_out_by_hand():
    # .01 x 4, then .02 x 3, then .04 x 2, then .03 x ... in order: .01, .02, .03, .04
    adjusted = holm(np.array([0.01, 0.04, np.nan, 0.03, 0.02]))
    assert adjusted == pytest.approx([0.04, 0.06, np.nan, 0.06, 0.06], nan_ok=True)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_as_its_steps_do(p):
    adjusted = holm(np.array(p))
    for level in (0.01, 0.05, 0.5):
        order, rejected = np.argsort(p, kind="stable"), set()
        for k, i in enumerate(order):
            if p[i] * (len(p) - k) > level:
                break
            rejected.add(int(i))
        assert {i for i, a in enumerate(adjusted) if a <= level} == rejected


def test_p_is_near_the_share_of_all_exchanges():
    column = np.array([0.3, 1.0, -0.2, 0.8, 0.9, 0.4])
    sums = [abs(np.dot(signs, column)) for signs in product([-1, 1], repeat=6)]
    exact = np.mean([s >= abs(column.sum()) - 1e-12 for s in sums])
    (p,) = exchange_p(column[:, None], draws=40_000, rng=np.random.default_rng(0))
    assert p == pytest.approx(exact, abs=0.01)


def test_nothing_and_no_number():
    differences = np.array([[0.0, np.nan], [0.0, np.nan]])
    assert exchange_p(differences, draws=10, rng=np.random.default_rng(0)) == pytest.approx([1.0, np.nan], nan_ok=True)
    with pytest.raises(ValueError, match="draws = 0"):
        exchange_p(differences, draws=0, rng=np.random.default_rng(0))
