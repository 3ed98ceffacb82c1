"""How often a page would be wrong: a small case of each study of `benchmarks/truth.py` (`make evidence-truth`)."""

import numpy as np
import pytest
from scipy.stats import binomtest

from benchmarks import truth
from steer_core.evaluation.controls import permutation_p, permuted_error
from steer_core.evaluation.steerability import continuous_scores
from steer_core.reports.contrast import Contrast
from steer_core.reports.headline import listening
from steer_core.statistics import slope_within
from steer_core.statistics.power import BLIND

WORLDS = 300


def consistent(rate, stated, n, side="greater"):
    """Whether so many of n worlds can come of the stated rate: one in ten thousand is too few."""
    return binomtest(round(rate * n), n, stated, alternative=side).pvalue > 1e-4


@pytest.fixture(scope="module", params=["bell", "skewed"])
def tales(request):
    return truth.drawn_requests(truth.shipped_probes()["tales-main"], request.param)


def test_a_request_blind_method_is_rarely_said_to_listen(tales):
    assert consistent(truth.heard(*tales, 0.0, WORLDS) / WORLDS, BLIND, WORLDS)


def test_a_quarter_of_the_move_is_found(tales):
    assert truth.heard(*tales, 0.25, 60) >= 0.8 * 60


def test_the_smallest_listener_that_a_probe_prints_is_found_about_as_often_as_it_says(tales):
    z0, z_star, texts = tales
    smallest = truth.smallest_listener(np.nan_to_num(z_star - z0), texts)
    found = truth.heard(*tales, smallest, 150) / 150
    assert 0.6 <= found <= 0.95


def test_a_probe_that_asks_each_text_once_finds_nobody():
    requests = truth.drawn_requests(truth.shipped_probes()["nothing-asked"], "bell")
    assert truth.heard(*requests, 0.5, 20) == 0


def test_the_sentence_stands_on_the_rank():
    said = {p: listening(_contrast(p)) for p in (BLIND, BLIND + 1e-6)}
    assert "It does listen" in said[BLIND]
    assert "cannot be told" in said[BLIND + 1e-6]


def _contrast(p):
    return Contrast(
        "permuted", "", "complete", "better", 0.3, 0.6, -0.3, -0.4, -0.2, 0.5, 0.4, 0.6, 0.9, n=64, n_clusters=8, p=p
    )


@pytest.mark.parametrize("n_texts", [12, 24])
@pytest.mark.parametrize("study", ["normal", "demo"])
def test_intervals_cover(study, n_texts):
    found = {"normal": truth.normal_coverage, "demo": truth.demo_coverage}[study](n_texts, 400)
    assert len(found) >= 5
    for what, (rate, low, high) in found.items():
        assert low <= 0.96, (what, rate)
        assert high >= 0.94, (what, rate)


@pytest.mark.parametrize("n", [5, 19, 40])
def test_a_random_vector_is_called_beyond_random_at_its_stated_rate(n):
    for what, (rate, _, _) in truth.random_vectors(1500).items():
        if what.startswith(f"{n} "):
            assert consistent(rate, 0.05, 1500), what
            assert (rate == 0.0) == (n < 19), what


def test_the_demos_own_outcomes_have_the_right_chance_level():
    """The reported case: shuffled across texts copy and rewrite came out worse than chance; within texts exactly at it."""
    rows = truth.pl.read_parquet(truth.OUTCOMES).sort("method", "text", "request", "goal")
    found = {}
    for (method,), part in rows.group_by(["method"], maintain_order=True):
        z0, z_star, z_hat = (
            part[c].cast(truth.pl.Float64).fill_null(np.nan).to_numpy().reshape(512, 4)
            for c in ("z0", "z_star", "z_hat")
        )
        texts = part["text"].to_numpy()[::4]
        chance = permuted_error(z0, z_star, z_hat, texts)
        own = continuous_scores(z0, z_star, z_hat).error
        found[method] = np.nanmean(own), np.nanmean(chance)
        p = permutation_p(z0, z_star, z_hat, texts, permutations=200, rng=np.random.default_rng(0))
        assert (p == 1.0) == (method in ("copy", "rewrite"))
        slopes = [slope_within((z_star - z0)[:, k], (z_hat - z0)[:, k], texts).slope for k in range(4)]
        if method in ("copy", "rewrite"):
            assert slopes == [0.0] * 4
    for deaf in ("copy", "rewrite"):
        assert found[deaf][0] == pytest.approx(found[deaf][1], abs=1e-6)
    assert found["direct"] == (pytest.approx(0.336, abs=1e-3), pytest.approx(0.619, abs=1e-3))
