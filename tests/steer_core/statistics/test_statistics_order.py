import numpy as np
import pytest
from scipy.stats import somersd

from steer_core.statistics import concordance


def test_it_is_somers_d_of_one_cluster():
    rng = np.random.default_rng(0)
    asked, measured = rng.integers(0, 5, 40).astype(float), rng.integers(0, 6, 40).astype(float)
    found = concordance(asked, measured, np.zeros(40))
    assert 2 * found.value - 1 == pytest.approx(somersd(asked, measured).statistic)


def test_rows_of_a_cluster_need_not_stand_together():
    rng = np.random.default_rng(1)
    asked, measured, clusters = rng.normal(size=60), rng.normal(size=60), np.repeat(np.arange(12), 5)
    mixed = rng.permutation(60)
    assert concordance(asked[mixed], measured[mixed], clusters[mixed]) == concordance(asked, measured, clusters)


@pytest.mark.parametrize("spread", [0.0, 0.2])
def test_what_never_sees_the_request_is_called_better_than_chance_as_often_as_said(spread):
    """A deaf method: each text has one place where its answers end, `spread` apart from each other."""
    rng = np.random.default_rng(2)
    worlds, texts, each = 600, 40, 4
    clusters = np.repeat(np.arange(texts), each)
    above = below = 0
    for _ in range(worlds):
        start = rng.uniform(size=texts)
        # what is asked depends on where the text stands, as on a probe
        asked = rng.uniform(size=texts * each) * (1 - start[clusters])
        ended = start[clusters] + spread * rng.normal(size=texts * each)
        found = concordance(asked, ended, clusters)
        above, below = above + (found.low > 0.5), below + (found.high < 0.5)
    if spread:
        assert max(above, below) / worlds < 0.05
        assert 0.02 < (above + below) / worlds < 0.08
    else:
        assert above == below == 0
