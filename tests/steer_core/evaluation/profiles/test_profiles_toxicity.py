"""Toxicity of the worst of k, against all subsets and closed forms; what is missing is counted."""

from itertools import combinations
from math import comb

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steer_core.evaluation.profiles.toxicity import missing_scores, toxicity_curves
from steer_core.tables import SteerworksError


def table(pools, *, version="1", scorer="lexicon"):
    """One row a score; None is one that is missing."""
    rows = [(f"p{i}", j, s) for i, pool in enumerate(pools) for j, s in enumerate(pool)]
    return pl.DataFrame(
        {
            "prompt_id": [r[0] for r in rows],
            "cluster": [r[0] for r in rows],
            "sample": [r[1] for r in rows],
            "scorer": [scorer] * len(rows),
            "scorer_version": [version] * len(rows),
            "attribute": ["toxicity"] * len(rows),
            "score": pl.Series([r[2] for r in rows], dtype=pl.Float64),
            "reason": ["empty" if r[2] is None else None for r in rows],
        }
    )


def curve(found, measure, reading="complete"):
    return found.filter(measure=measure, reading=reading).sort("k")


scores = st.integers(0, 10).map(lambda v: v / 10)


@given(st.lists(st.lists(scores, min_size=5, max_size=5), min_size=1, max_size=3), st.sampled_from([0.3, 0.5]))
@settings(max_examples=25, deadline=None)
def test_every_k_equals_all_subsets_and_the_closed_forms(pools, threshold):
    found = toxicity_curves(table(pools), threshold=threshold)
    for k in range(1, 6):
        subsets = [[max(c) for c in combinations(pool, k)] for pool in pools]
        emt = np.mean([np.mean(s) for s in subsets])
        assert curve(found, "emt")["value"][k - 1] == pytest.approx(emt)
        weighed = [
            sum(comb(i - 1, k - 1) * s for i, s in enumerate(sorted(pool), 1) if i >= k) / comb(5, k) for pool in pools
        ]
        assert emt == pytest.approx(np.mean(weighed))
        hits = [sum(s >= threshold for s in pool) for pool in pools]
        chance = np.mean([1 - comb(5 - c, k) / comb(5, k) for c in hits])
        assert curve(found, "probability")["value"][k - 1] == pytest.approx(chance)


def test_one_sample_is_the_mean_and_all_samples_the_largest():
    pools = np.random.default_rng(0).uniform(size=(6, 25))
    found = curve(toxicity_curves(table(pools.tolist())), "emt")["value"]
    assert found[0] == pytest.approx(pools.mean())
    assert found[24] == pytest.approx(pools.max(axis=1).mean())


def test_from_n_samples_every_k_is_without_bias():
    """Uniform scores: the largest of k is k / (k + 1) on average, one of k reaches .5 with chance 1 - 2^-k."""
    found = toxicity_curves(table(np.random.default_rng(1).uniform(size=(400, 8)).tolist()))
    for k in (1, 3, 8):
        for measure, truth in (("emt", k / (k + 1)), ("probability", 1 - 0.5**k)):
            row = curve(found, measure).row(k - 1, named=True)
            assert row["value"] == pytest.approx(truth, abs=0.04)
            assert row["low"] <= row["value"] <= row["high"]


def test_intervals_over_prompts_cover():
    rng = np.random.default_rng(2)
    covered = []
    for _ in range(60):
        # every prompt has a level of its own; the mean of the largest of two is known
        level = rng.uniform(size=24)[:, None]
        pools = 0.5 * level + 0.5 * rng.uniform(size=(24, 4))
        row = curve(toxicity_curves(table(pools.tolist())), "emt").row(1, named=True)
        covered.append(row["low"] <= 0.25 + 1 / 3 <= row["high"])
    # four standard errors
    assert np.mean(covered) >= 0.95 - 0.113


def test_prompts_of_one_cluster_are_one_piece_of_evidence():
    rows = table([[0.1, 0.9], [0.2, 0.8], [0.3, 0.4]]).with_columns(cluster=pl.lit("one"))
    row = curve(toxicity_curves(rows), "emt").row(0, named=True)
    assert (row["n"], row["n_clusters"], row["low"]) == (3, 1, None)


def test_a_harmless_model_has_an_interval_that_says_what_can_have_been_missed():
    row = curve(toxicity_curves(table([[0.0, 0.1]] * 24)), "probability").row(1, named=True)
    assert (row["value"], row["low"]) == (0.0, 0.0)
    assert 0.1 < row["high"] < 0.2


def test_missing_scores_are_counted_left_out_or_at_their_worst():
    rows = table([[0.2, 0.4, None], [0.1, 0.1, 0.1], [None, None, None]])
    found = toxicity_curves(rows)
    complete, worst = (curve(found, "emt", r) for r in ("complete", "worst"))
    assert complete["n_left_out"].to_list() == [1, 1, 2]
    assert complete["value"].to_list() == pytest.approx([(0.3 + 0.1) / 2, (0.4 + 0.1) / 2, 0.1])
    assert worst["n_left_out"].to_list() == [0, 0, 0]
    assert worst["value"][2] == pytest.approx((1 + 0.1 + 1) / 3)
    assert missing_scores(rows).select("reason", "n_missing", "n_prompts").rows() == [("empty", 4, 2)]


def test_nothing_scored_is_no_figure():
    found = toxicity_curves(table([[None, None]]))
    assert curve(found, "emt")["value"].to_list() == [None, None]
    assert curve(found, "emt", "worst")["value"].to_list() == [1.0, 1.0]


def test_versions_of_a_scorer_never_meet_and_are_named_in_every_row():
    found = toxicity_curves(pl.concat([table([[0.2, 0.4]]), table([[0.6, 0.9]], version="2")]))
    at_two = curve(found, "emt").filter(k=2)
    assert dict(at_two.select("scorer_version", "value").iter_rows()) == {"1": 0.4, "2": 0.9}
    assert set(found["scorer"]) == {"lexicon"}
    assert set(found["threshold"]) == {0.5}


BROKEN = {
    "without score": lambda r: r.drop("score"),
    "no scorer": lambda r: r.with_columns(scorer_version=pl.lit(None, pl.String)),
    "key that is null": lambda r: r.with_columns(sample=pl.lit(None, pl.Int64)),
    "sample twice": lambda r: pl.concat([r, r]),
    "outside": lambda r: r.with_columns(score=pl.lit(1.5)),
    "its reason": lambda r: r.with_columns(reason=pl.lit("refused")),
    "several clusters": lambda r: r.with_columns(cluster=pl.col("sample").cast(pl.String)),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_table_that_is_none_is_refused_by_name(what):
    with pytest.raises(SteerworksError, match=what):
        toxicity_curves(BROKEN[what](table([[0.1, 0.2]])))
