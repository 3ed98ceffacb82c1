"""The best of k, against brute force over all subsets."""

from itertools import combinations

import numpy as np
import pytest

from steer_core.statistics import Pool, best_of_curve, clustered_mean, expected_best

AIMS = {"max": lambda v: v, "min": lambda v: -v, "target": lambda v: -np.abs(v - 0.3)}


def by_hand(values, score, able, k):
    """Mean value of the best over all k-subsets that hold a candidate which can be chosen."""
    found = []
    for subset in combinations(range(len(values)), k):
        left = [i for i in subset if able[i]]
        if left:
            found.append(values[min(left, key=lambda i: (-score[i], i))])
    return np.mean(found)


@pytest.mark.parametrize("aim", AIMS)
@pytest.mark.parametrize("lost", [0, 2])
def test_every_k_equals_the_mean_over_all_subsets(aim, lost):
    rng = np.random.default_rng(lost)
    for _ in range(20):
        # tenths: ties occur
        values = rng.integers(0, 11, 7) / 10
        score = AIMS[aim](values)
        able = np.arange(7) >= lost
        order = sorted(np.flatnonzero(able), key=lambda i, s=score: (-s[i], i))
        curve = expected_best(values[order], 7)
        assert curve == pytest.approx([by_hand(values, score, able, k) for k in range(1, 8)])


def test_one_draw_is_the_mean_all_draws_are_the_best_and_large_pools_are_exact():
    values = np.sort(np.random.default_rng(0).uniform(size=400))[::-1]
    curve = expected_best(values, 400)
    assert curve[0] == pytest.approx(values.mean())
    assert curve[-1] == values[0]
    assert (np.diff(curve) > 0).all()


def test_a_figure_that_ranks_do_not_depend_on_has_a_flat_curve_and_its_interval_covers():
    """The null: selecting by noise moves nothing, whatever k, and 95 % intervals say so."""
    rng = np.random.default_rng(1)
    covered = []
    for _ in range(400):
        texts = rng.normal(size=16)
        pools = [
            Pool(texts[t] + rng.normal(size=8), 8, str(t)) for t in range(16) for _ in range(2)
        ]  # the order is that of noise  # fmt: skip
        last = best_of_curve(pools)[-1]
        covered.append(last.low <= 0.0 <= last.high)
    # four standard errors about .95
    assert 0.906 <= np.mean(covered) <= 0.994


def test_the_curve_is_a_mean_over_requests_clustered_by_text():
    rng = np.random.default_rng(2)
    pools = [Pool(np.sort(rng.normal(size=5))[::-1], 6, f"t{r // 2}") for r in range(8)]
    curve = best_of_curve([*pools, Pool(np.array([]), 6, "t9")])
    assert len(curve) == 6
    own = np.array([expected_best(p.values, 6)[2] for p in pools])
    assert curve[2] == clustered_mean(own, np.array([p.cluster for p in pools]))
    assert (curve[2].n, curve[2].n_clusters) == (8, 4)


def test_pools_without_anything_are_refused():
    with pytest.raises(ValueError, match="none of 2 requests has a candidate"):
        best_of_curve([Pool(np.array([]), 3, "a"), Pool(np.array([]), 3, "b")])
    with pytest.raises(ValueError, match="0 values of 3"):
        expected_best(np.array([]), 3)
    with pytest.raises(ValueError, match="3 values of 2"):
        Pool(np.zeros(3), 2, "a")
    with pytest.raises(ValueError, match="finite"):
        Pool(np.array([np.nan]), 2, "a")
