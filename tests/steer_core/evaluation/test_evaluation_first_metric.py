"""The table of 2024: mean and spread over rows, what is left out counted, goal spaces never mixed."""

import math

import polars as pl
import pytest
from evaluation_world import make_world, steered

from steer_core.evaluation import evaluate, summarise
from steer_core.evaluation.first_metric import first_metric_table
from steer_core.tables import SteerworksError


def scores(**more):
    rows = {
        "arm_id": ["headline"] * 4 + ["step 9"],
        "probe": ["a", "a", "a", "b", "a"],
        "goal_space_id": ["g"] * 5,
        "sensitivity": [1.0, 3.0, None, None, 2.0],
        "directionality": [1.0, 0.5, math.nan, None, 1.0],
        "score": [1.0, 1.5, None, None, 2.0],
    }
    return pl.DataFrame(rows | more, schema_overrides={"sensitivity": pl.Float64})


def test_means_and_spreads_by_hand():
    table = first_metric_table(scores())
    found = {(r["arm_id"], r["probe"], r["measure"]): r for r in table.to_dicts()}
    row = found["headline", "a", "sensitivity"]
    # the spread is that of the rows themselves, not of a sample of them
    assert (row["mean"], row["sd"], row["n"], row["n_left_out"]) == (2.0, 1.0, 2, 1)
    row = found["headline", "a", "directionality"]
    assert (row["mean"], row["sd"], row["n"], row["n_left_out"]) == (0.75, 0.25, 2, 1)
    row = found["step 9", "a", "score"]
    assert (row["mean"], row["sd"], row["n"]) == (2.0, 0.0, 1)
    row = found["headline", "b", "score"]
    assert (row["mean"], row["sd"], row["n"], row["n_left_out"]) == (None, None, 0, 1)
    assert table.filter(arm_id="headline", probe="a")["measure"].to_list() == ["sensitivity", "directionality", "score"]


def test_two_goal_spaces_are_no_table():
    with pytest.raises(SteerworksError, match=r"2 goal spaces \(g, h\)"):
        first_metric_table(scores(goal_space_id=["g", "g", "g", "g", "h"]))


def test_other_rows_are_refused_by_what_they_lack():
    with pytest.raises(SteerworksError, match="without directionality, score: pass rows of the table `steerability`"):
        first_metric_table(scores().drop("directionality", "score"))


def test_no_rows_give_no_table():
    assert first_metric_table(scores().clear()).is_empty()


def test_its_means_are_those_of_the_summary():
    scored, movements = evaluate(*steered(make_world(n_texts=12)).tables())
    means = summarise(scored, movements, draws=20, seed=0).filter(goal="overall", reading="complete", statistic="mean")
    expected = {(r["probe"], r["measure"]): r["value"] for r in means.to_dicts()}
    found = first_metric_table(scored)
    assert found.height == 6
    assert found["n_left_out"].sum() > 0
    for row in found.to_dicts():
        assert row["mean"] == pytest.approx(expected[row["probe"], row["measure"]])
