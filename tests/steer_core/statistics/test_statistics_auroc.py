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
