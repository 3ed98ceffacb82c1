"""StereoSet and CrowS-Pairs: published figures, ties, and the choice of length."""

import numpy as np
import polars as pl
import pytest

from steer_core.evaluation.profiles.stereotypes import crows_pairs, icat, stereoset
from steer_core.tables import SteerworksError

ROLES = ("stereotype", "anti", "unrelated")


def item(name, scores, *, term=None, kind="gender", tokens=None, sizes=None):
    n = len(scores)
    return pl.DataFrame(
        {
            "item_id": [name] * n,
            "bias_type": [kind] * n,
            "cluster": [term or name] * n,
            "role": ROLES[:n],
            "log_likelihood": pl.Series(scores, dtype=pl.Float64),
            "tokens": tokens or [1] * n,
            "bytes": sizes or [1] * n,
        }
    )


def cat(*items, length="token", seed=0, **more):
    return stereoset(pl.concat(items), length, draws=50, rng=np.random.default_rng(seed), **more)


def figures(found, kind="all"):
    return dict(found.filter(bias_type=kind).select("measure", "value").iter_rows())


@pytest.mark.parametrize(
    ("lm", "ss", "value"),
    [(84.172, 58.240, 70.301), (88.510, 63.319, 64.932), (100, 50, 100), (100, 0, 0), (100, 100, 0)],
)
def test_icat_of_published_scores(lm, ss, value):
    assert icat(np.array(float(lm)), np.array(float(ss))) == pytest.approx(value, abs=2e-3)


def test_scores_are_means_over_terms_not_items():
    rows = [item("a1", [-1, -2, -3], term="a"), item("a2", [-1, -2, -3], term="a"), item("b", [-3, -1, -2], term="b")]
    found = figures(cat(*rows))
    # of term b one comparison in two is won, and the anti-stereotype is preferred
    assert found == {"lm": 75.0, "ss": 50.0, "icat": 75.0}


def test_a_tie_counts_half_and_a_model_that_knows_nothing_is_at_fifty():
    found = cat(*(item(str(i), [-1.0, -1.0, -1.0]) for i in range(4)))
    assert figures(found) == {"lm": 50.0, "ss": 50.0, "icat": 50.0}
    counts = found.filter(bias_type="all", measure="ss").row(0, named=True)
    assert (counts["n_ties_ss"], counts["n_ties_lm"], counts["n_items"]) == (4, 8, 4)
    pairs = crows_pairs(pl.concat([item("a", [-1.0, -1.0]), item("b", [float("-inf")] * 2)]), "sum").row(0, named=True)
    assert (pairs["value"], pairs["n_ties"], pairs["gap"]) == (50.0, 2, 0.0)


def test_length_decides_which_sentence_is_likelier():
    pair = item("a", [-6.0, -5.0], tokens=[3, 2], sizes=[10, 10])
    assert [crows_pairs(pair, how)["value"][0] for how in ("sum", "token", "byte")] == [0.0, 100.0, 0.0]


def test_types_of_bias_stand_apart_and_missing_scores_are_counted():
    rows = pl.concat([item("a", [-1, -2]), item("b", [-2, -1], kind="race"), item("c", [None, -1], kind="race")])
    found = crows_pairs(rows, "token")
    assert dict(found.select("bias_type", "value").iter_rows()) == {"gender": 100.0, "race": 0.0, "all": 50.0}
    assert dict(found.select("bias_type", "n_unscored").iter_rows()) == {"gender": 0, "race": 1, "all": 1}
    none = cat(item("a", [None, -1, -2]))
    assert set(none["value"].to_list()) == {None}
    assert none["n_unscored"].to_list() == [1] * 6


def test_a_tolerance_makes_rounding_a_tie():
    pair = item("a", [-1.0, -1.0 - 1e-7])
    assert crows_pairs(pair, "sum")["value"][0] == 100.0
    assert crows_pairs(pair, "sum", tolerance=1e-6)["value"][0] == 50.0


def test_a_model_without_preference_is_called_stereotyping_as_often_as_promised():
    rng = np.random.default_rng(0)
    called, below, covered = [], [], []
    for seed in range(60):
        lean = rng.normal(size=24).repeat(5)
        scores = np.stack([lean + rng.normal(size=120), rng.normal(size=120), rng.normal(size=120) - 3.0], axis=1)
        rows = pl.DataFrame(
            {
                "item_id": np.arange(120).repeat(3).astype(str),
                "bias_type": ["x"] * 360,
                "cluster": (np.arange(120) // 5).repeat(3).astype(str),
                "role": ROLES * 120,
                "log_likelihood": scores.ravel(),
                "tokens": [1] * 360,
                "bytes": [1] * 360,
            }
        )
        found = {r["measure"]: r for r in cat(rows, seed=seed).filter(bias_type="all").iter_rows(named=True)}
        called.append(not found["ss"]["low"] <= 50.0 <= found["ss"]["high"])
        below.append(found["lm"]["value"] - found["icat"]["value"])
        assert found["icat"]["low"] <= found["icat"]["value"] <= found["icat"]["high"]
        # SS is 50 in truth, LM the mean of Phi(3 / sqrt(3)) and Phi(3 / sqrt(2))
        covered.append(found["icat"]["low"] <= 97.07 <= found["icat"]["high"])
    # four standard errors
    assert np.mean(called) <= 0.05 + 0.113
    assert np.mean(covered) >= 0.95 - 0.113
    # noise of SS alone lowers ICAT
    assert np.mean(below) > 3.0


BROKEN = {
    "unknown length": (lambda r: r, "mean"),
    "a column too few": (lambda r: r.drop("bytes"), "sum"),
    "a role too few": (lambda r: r.head(1), "sum"),
    "a role twice": (lambda r: pl.concat([r, r]), "sum"),
    "two terms": (lambda r: r.with_columns(cluster=pl.col("role")), "sum"),
    "no tokens": (lambda r: r.with_columns(tokens=pl.lit(0)), "sum"),
    "NaN": (lambda r: r.with_columns(log_likelihood=pl.lit(float("nan"))), "sum"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_table_that_is_none_is_refused(what):
    change, length = BROKEN[what]
    with pytest.raises(SteerworksError, match="sentence table|items"):
        crows_pairs(change(item("a", [-1.0, -2.0])), length)
