"""Profiles in figures: intervals by item, paired differences, and how often equal models are called different."""

import numpy as np
import polars as pl
import pytest

from schemas import ProfileDifferences, ProfileSummary, TextProfiles
from steer_core.evaluation.profiles import compare_profiles, profile_texts, summarise_profile
from steer_core.statistics import clustered_mean
from steer_core.tables import check
from steer_core.tables.errors import SteerworksError


def profile(values, prefix="t"):
    """A profile of made-up metrics, values [texts, metrics], and its answers, one a text, item = text."""
    n, width = values.shape
    rows = pl.DataFrame(
        {
            "text_id": [f"{prefix}{i}" for i in range(n) for _ in range(width)],
            "metric": [f"m{j}" for _ in range(n) for j in range(width)],
            "value": pl.Series(values.reshape(-1)).fill_nan(None),
            "missing": pl.Series(np.isnan(values).reshape(-1)).replace_strict(
                {True: "none", False: None}, return_dtype=pl.String
            ),
        },
        schema=TextProfiles.dtypes(),
    )
    answers = pl.DataFrame({"item_id": [f"i{i:03}" for i in range(n)], "text_id": [f"{prefix}{i}" for i in range(n)]})
    return rows, answers


def compared(one, two, **options):
    return check(compare_profiles(*profile(one, "a"), *profile(two, "b"), **options), ProfileDifferences)


def test_equal_models_are_called_different_in_any_metric_as_seldom_as_asked():
    rng, worlds, found = np.random.default_rng(3), 100, 0
    for world in range(worlds):
        # 24 metrics that hang together both ways, flags, ties and missing values among them; items differ in level
        both = []
        for _ in range(2):
            own = rng.normal(size=(24, 1)) + rng.normal(size=(24, 24)) * 0.5
            own[:, ::3] *= -1
            own[:, 1::4] = np.exp(2 * own[:, 1::4])
            own[:, 2::4] = own[:, 2::4] > 0.8
            own[rng.random(size=own.shape) < 0.05] = np.nan
            both.append(own)
        found += bool(compared(*both, draws=600, seed=world)["different"].any())
    # binomial, 100 worlds at .05: 11 or fewer in 99.5 % of runs
    assert found <= 11


def test_a_real_difference_is_found_among_many_that_are_none():
    rng = np.random.default_rng(1)
    one, two = rng.normal(size=(40, 20)), rng.normal(size=(40, 20))
    one[:, 7] += 1.5
    rows = compared(one, two)
    assert rows.filter("different")["metric"].to_list() == ["m7"]
    row = rows.row(7, named=True)
    assert row["difference"] == pytest.approx(row["value"] - row["other_value"])
    assert row["low"] > 0
    assert row["p_adjusted"] >= row["p"]


def test_a_profile_differs_from_itself_in_nothing_and_the_sides_exchange():
    rng = np.random.default_rng(2)
    one, two = rng.normal(size=(15, 4)), rng.normal(size=(15, 4)) + 1
    assert compared(one, one)["p"].to_list() == [1.0] * 4
    there, back = compared(one, two), compared(two, one)
    assert there["difference"].to_list() == pytest.approx((-back["difference"]).to_list())
    assert there["p"].to_list() == back["p"].to_list()


def test_samples_of_an_item_are_averaged_before_they_are_paired():
    one, two = np.array([[1.0], [3.0], [5.0]]), np.array([[0.0], [1.0]])
    rows, answers = profile(one, "a")
    answers = answers.with_columns(item_id=pl.Series(["x", "x", "y"]))
    other, others = profile(two, "b")
    others = others.with_columns(item_id=pl.Series(["x", "y"]))
    found = compare_profiles(rows, answers, other, others).row(0, named=True)
    assert (found["value"], found["other_value"], found["difference"], found["n"]) == (3.5, 0.5, 3.0, 2)


def test_missing_values_are_left_out_on_both_sides_and_counted():
    one, two = (
        np.array([[1.0, np.nan], [2.0, np.nan], [np.nan, np.nan]]),
        np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0]]),
    )
    first, second = compared(one, two).rows(named=True)
    assert (first["n"], first["missing"], first["other_missing"], first["difference"]) == (2, 1 / 3, 0.0, 1.0)
    assert (second["n"], second["p"], second["difference"], second["different"]) == (0, None, None, False)
    assert second["missing"] == 1.0


def test_summaries_have_means_and_medians_with_intervals_by_item():
    texts = pl.DataFrame({"text_id": ["a", "b", "c"], "text": ["One two.", "One two three four.", ""]})
    answers = pl.DataFrame({"item_id": ["x", "x", "y", "z"], "text_id": ["a", "b", "b", "c"]})
    rows = check(summarise_profile(profile_texts(texts, ["n_words", "lix"]), answers, draws=200), ProfileSummary)
    mean = rows.filter(metric="n_words", statistic="mean").row(0, named=True)
    expected = clustered_mean(np.array([2.0, 4.0, 4.0, 0.0]), np.array(["x", "x", "y", "z"]))
    assert [mean["value"], mean["low"], mean["high"]] == [expected.value, expected.low, expected.high]
    assert (mean["n"], mean["n_clusters"], mean["missing"]) == (4, 3, 0.0)
    median = rows.filter(metric="lix", statistic="median").row(0, named=True)
    assert (median["value"], median["missing"], median["n"]) == (4.0, 0.25, 3)


def test_what_cannot_be_compared_is_refused():
    one = np.zeros((3, 2))
    rows, answers = profile(one)
    with pytest.raises(SteerworksError, match="only one of the two profiles has the metric 'm1'"):
        compare_profiles(rows, answers, rows.filter(metric="m0"), answers)
    with pytest.raises(SteerworksError, match="no item in common"):
        compare_profiles(rows, answers, rows, answers.with_columns(item_id=pl.col("item_id") + "!"))
    with pytest.raises(SteerworksError, match="1 texts of the answers are not in the profile"):
        summarise_profile(rows.filter(pl.col("text_id") != "t1"), answers)
    with pytest.raises(SteerworksError, match="at least 40 draws"):
        compared(one, one, draws=39)
    with pytest.raises(SteerworksError, match="metric 'm1' has 2 rows for 3 answers"):
        summarise_profile(rows.filter((pl.col("text_id") != "t1") | (pl.col("metric") != "m1")), answers)
