"""Fidelity: figures by hand and against scipy, and intervals in worlds where requests are ignored or met in part."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from schemas.steerlm import AttributeSet, AttributeSpec
from steer_core.adapters.steerlm.fidelity import cross_talk, fidelity, spearman
from steer_core.statistics import concordance

TWO = AttributeSet(attributes=(AttributeSpec(name="a"), AttributeSpec(name="b", low=-2, high=2)))


def matrix(slopes):
    return {(s.asked, s.measured): s.slope for s in slopes}


def requests(rng, n_prompts=24, each=6):
    asked = np.stack([rng.integers(0, 5, n_prompts * each), rng.integers(-2, 3, n_prompts * each)], axis=1)
    return asked.astype(float), np.repeat(np.arange(n_prompts), each)


def test_figures_of_a_small_case_by_hand():
    asked = np.array([[0.0, 0], [2, 0], [4, 0], [1, 0]])
    measured = np.array([[1.0, 0], [2, 0], [2, 0], [0, 0]])
    found = fidelity(asked, measured, TWO, np.array([0, 0, 0, 1]), draws=20, rng=np.random.default_rng(0))
    first = found.attributes[0]
    assert first.mae.value == pytest.approx((1 + 0 + 2 + 1) / 4)
    # of the first prompt's pairs two are in order and one is tied; the second prompt has none
    assert (first.concordance.value, first.concordance.n) == (pytest.approx(2.5 / 3), 3)
    assert first.concordance.n_clusters == 1
    second = found.attributes[1]
    assert (second.mae.value, second.spearman.value, second.concordance.value) == (0.0, None, None)


def test_spearman_is_that_of_scipy_with_ties():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 5, 80).astype(float), rng.integers(0, 7, 80).astype(float)
    y += x
    found = spearman(x, y, np.arange(80) // 4, draws=200, rng=rng)
    assert found.value == pytest.approx(spearmanr(x, y).statistic)
    assert found.low < found.value < found.high


def test_resampled_ranks_are_those_of_the_repeated_rows():
    from steer_core.adapters.steerlm.fidelity import _weighted_spearman

    rng = np.random.default_rng(1)
    x, y, weights = rng.integers(0, 5, 30).astype(float), rng.normal(size=30), rng.integers(0, 4, (5, 30))
    for draw, found in zip(weights, _weighted_spearman(x, y, weights), strict=True):
        assert found == pytest.approx(spearmanr(np.repeat(x, draw), np.repeat(y, draw)).statistic)


def test_requests_that_are_met_give_the_identity():
    asked, prompts = requests(np.random.default_rng(0))
    found = fidelity(asked, asked, TWO, prompts, draws=20, rng=np.random.default_rng(0))
    assert [a.mae.value for a in found.attributes] == [0.0, 0.0]
    assert [a.spearman.value for a in found.attributes] == pytest.approx([1.0, 1.0])
    assert [a.concordance.value for a in found.attributes] == pytest.approx([1.0, 1.0])
    slopes = {k: v.value for k, v in matrix(found.cross_talk).items()}
    assert slopes == pytest.approx({("a", "a"): 1, ("a", "b"): 0, ("b", "a"): 0, ("b", "b"): 1})


def test_slopes_are_in_shares_of_ranges_and_requests_that_go_together_are_no_cross_talk():
    rng = np.random.default_rng(0)
    nine = AttributeSet(attributes=(AttributeSpec(name="a", high=9), AttributeSpec(name="b")))
    a = rng.integers(0, 10, 400).astype(float)
    # who asks for more of a asks for more of b
    b = np.clip(np.round(a / 9 * 4 + rng.normal(0, 0.7, 400)), 0, 4)
    measured = np.stack([0.5 * a, 1.0 * b + 0.1 * a], axis=1)
    found, left_out = cross_talk(np.stack([a, b], axis=1), measured, nine, np.arange(400) // 8)
    slopes = {k: v.value for k, v in matrix(found).items()}
    assert slopes == pytest.approx(
        {("a", "a"): 0.5, ("b", "b"): 1.0, ("b", "a"): 0.0, ("a", "b"): 0.1 * 9 / 4}, abs=1e-9
    )
    assert left_out == 0


def test_what_a_prompt_brings_with_it_moves_no_slope_within_prompts():
    rng = np.random.default_rng(0)
    asked, prompts = requests(rng)
    shifted = asked + rng.normal(0, 5, 24)[prompts][:, None]
    found = matrix(cross_talk(asked, shifted, TWO, prompts)[0])
    assert found["a", "a"].value == pytest.approx(1.0)
    # prompts that were asked once have a slope over all answers only
    alone = np.arange(len(asked))
    assert matrix(cross_talk(asked, asked, TWO, alone)[0])["a", "a"].value is None
    assert matrix(cross_talk(asked, asked, TWO, alone, within=False)[0])["a", "a"].value == pytest.approx(1.0)


def test_slopes_agree_with_least_squares():
    rng = np.random.default_rng(3)
    asked, prompts = requests(rng)
    measured = asked @ rng.normal(size=(2, 2)) + rng.normal(size=asked.shape)
    dummies = np.eye(24)[prompts]
    by_hand = np.linalg.lstsq(np.concatenate([asked, dummies], axis=1), measured, rcond=None)[0][:2]
    found = matrix(cross_talk(asked, measured, TWO, prompts)[0])
    for i, p in enumerate("ab"):
        for j, q in enumerate("ab"):
            assert found[p, q].value == pytest.approx(by_hand[i, j])


def test_attributes_never_asked_for_are_looked_at_and_missing_ones_counted():
    asked, prompts = requests(np.random.default_rng(0))
    measured = asked.copy()
    measured[:5, 1] = np.nan
    asked[:, 1] = np.nan
    found = fidelity(asked, measured, TWO, prompts, draws=20, rng=np.random.default_rng(0))
    assert set(matrix(found.cross_talk)) == {("a", "a"), ("a", "b")}
    assert found.left_out == 5
    assert (found.attributes[1].mae.value, found.attributes[1].spearman.n) == (None, 0)


def test_requests_that_never_move_by_themselves_have_no_slope():
    asked, prompts = requests(np.random.default_rng(0))
    asked[:, 1] = asked[:, 0] - 2
    found = matrix(cross_talk(asked, asked, TWO, prompts)[0])
    assert all(s.value is None for s in found.values())


def test_where_requests_are_ignored_intervals_hold_nothing_as_often_as_they_say():
    rng, worlds = np.random.default_rng(7), 200
    held = dict.fromkeys(("spearman", "concordance", "diagonal", "cross-talk"), 0)
    for _ in range(worlds):
        asked, prompts = requests(rng)
        # answers to one prompt are alike, whatever was asked
        measured = rng.normal(0, 1, (24, 2))[prompts] + rng.normal(0, 1, asked.shape)
        found = fidelity(asked, measured, TWO, prompts, draws=200, rng=rng)
        first, slopes = found.attributes[0], matrix(found.cross_talk)
        for name, estimate, truth in (
            ("spearman", first.spearman, 0.0),
            ("concordance", first.concordance, 0.5),
            ("diagonal", slopes["a", "a"], 0.0),
            ("cross-talk", slopes["b", "a"], 0.0),
        ):
            held[name] += estimate.low <= truth <= estimate.high
    # two standard errors of a share of 200 around .95 are .03; the bootstrap of ranks is not exact
    assert all(0.9 <= n / worlds <= 0.99 for n in held.values()), held


def test_where_requests_are_met_in_part_intervals_hold_the_true_slopes():
    rng, worlds, held = np.random.default_rng(8), 200, np.zeros(2)
    for _ in range(worlds):
        asked, prompts = requests(rng)
        pull = rng.normal(0.6, 0.3, 24)[prompts]  # prompts differ in how far they can be moved
        measured = np.stack([pull * asked[:, 0], asked[:, 1] + 0.2 * asked[:, 0]], axis=1)
        measured += rng.normal(0, 0.7, asked.shape)
        slopes = matrix(cross_talk(asked, measured, TWO, prompts)[0])
        for k, (pair, truth) in enumerate(((("a", "a"), 0.6), (("a", "b"), 0.2))):
            held[k] += slopes[pair].low <= truth <= slopes[pair].high
    assert ((held / worlds >= 0.9) & (held / worlds <= 0.99)).all(), held


def test_arguments_that_do_not_fit_are_refused():
    one, prompts = np.zeros((3, 2)), np.arange(3)
    with pytest.raises(ValueError, match="shapes"):
        fidelity(one, np.zeros((3, 1)), TWO, prompts, draws=9, rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="draws"):
        fidelity(one, one, TWO, prompts, draws=0, rng=np.random.default_rng(0))
    none = np.zeros(0)
    assert concordance(none, none, none).value is None
