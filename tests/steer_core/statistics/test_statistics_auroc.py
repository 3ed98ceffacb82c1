import numpy as np
import pytest

from steer_core.statistics import auroc, auroc_interval


def interval_of(positive, negative):
    items = [str(k) for k in range(len(positive))]
    values, labels = np.concatenate([positive, negative]), np.repeat([True, False], [len(positive), len(negative)])
    return auroc_interval(values, labels, [*items, *items])


@pytest.mark.parametrize("positive", [2.0, -2.0])
def test_of_values_that_all_lie_on_one_side_the_interval_is_no_point(positive):
    """Nothing to resample: 24 items can have missed a rate of up to .14, two of any."""
    rng = np.random.default_rng(0)
    for n, most in ((24, 0.1425), (2, 0.8419)):
        one, other = positive + rng.uniform(-0.5, 0.5, n), rng.uniform(-0.5, 0.5, n)
        value, (low, high) = auroc(one, other), interval_of(one, other)
        ends = (1 - most, 1.0) if positive > 0 else (0.0, most)
        assert value == (positive > 0)
        assert (low, high) == pytest.approx(ends, abs=1e-3)


def test_items_that_say_nothing_make_no_interval_narrower():
    """24 items of which two were read are two; one positive beside thirty negatives is one."""
    values, labels = np.repeat([2.0, 0.0], 24), np.repeat([True, False], 24)
    items = [str(k) for k in range(24)] * 2
    few = values.copy()
    few[2:24] = np.nan
    assert auroc_interval(few, labels, items)[0] == pytest.approx(0.1581, abs=1e-3)
    lone = auroc_interval(np.r_[2.0, np.zeros(30)], np.r_[True, np.zeros(30, bool)], [str(k) for k in range(31)])
    assert lone[0] == pytest.approx(0.025, abs=1e-3)
