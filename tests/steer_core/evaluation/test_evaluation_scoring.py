import math

import numpy as np
import polars as pl
import pytest
from evaluation_world import GOALS, LOWER, SPACE_ID, UPPER, VALUE_TYPES, make_world, outcome_row, steered, value_rows
from polars.testing import assert_frame_equal

from schemas import GoalMovements, GoalValues, Outcomes, RequestGoals, Requests, Steerability
from schemas.digest import digest_text
from steer_core.evaluation import closed_form_of_copy, evaluate
from steer_core.tables import SteerworksError, check

SCORES = ["moved", "error", "miscalibration", "orthogonality", "sensitivity", "error_binned", "meaning_content"]


@pytest.fixture(scope="module")
def world():
    return make_world()


@pytest.fixture(scope="module")
def answered(world):
    return steered(world)


@pytest.fixture(scope="module")
def scored(answered):
    return evaluate(*answered.tables())


def test_the_world_keeps_its_contracts(answered):
    for table, contract in zip(answered.tables(), (Requests, RequestGoals, Outcomes, GoalValues), strict=False):
        check(table, contract)


def test_both_tables_keep_their_contracts(scored):
    check(scored[0], Steerability)
    check(scored[1], GoalMovements)


def test_a_copy_equals_its_closed_form_row_by_row(world):
    scores, movements = evaluate(*world.tables())
    assert closed_form_of_copy(scores)["largest_deviation"].max() <= 1e-9
    assert closed_form_of_copy(scores)["n"].to_list() == [len(scores)] * 3
    np.testing.assert_allclose(scores["error"], scores["requested"], atol=1e-12)
    assert scores["copied"].all()
    assert (scores["meaning_content"] == 1.0).all()
    assert (scores["meaning_chrf"] == 1.0).all()
    assert (movements["z_hat"] == movements["z0"]).all()


def test_the_closed_form_notices_a_copy_that_was_measured_differently(world):
    bent = world.values.with_columns(
        pl.when(pl.col("scorer_id") == "formality@1").then(55.0).otherwise("value").alias("value")
    )
    scores, _ = evaluate(world.requests, world.request_goals, world.outcomes, bent, world.space)
    assert closed_form_of_copy(scores)["largest_deviation"].min() > 0.1


def test_a_copied_text_needs_no_second_measurement(world):
    nothing = pl.DataFrame(schema=VALUE_TYPES)
    without, _ = evaluate(world.requests, world.request_goals, world.outcomes, nothing, world.space)
    measured, _ = evaluate(*world.tables())
    assert_frame_equal(without, measured)


def test_a_row_by_hand():
    """One request: reading difficulty 7 -> 9, formality free, length 60 -> 110 asked for and 130 reached."""
    world = make_world(n_texts=1, per_text=1, probes=("main",))
    raw0, request_id = np.array([7.0, 55.0, 60.0]), world.requests["request_id"][0]
    goals = world.request_goals.with_columns(z0=pl.lit(0.5), z_star=pl.Series([0.7, None, 1.0]), z0_raw=pl.Series(raw0))
    values = pl.DataFrame(value_rows(digest_text("new"), np.array([8.0, 58.0, 130.0])), schema=VALUE_TYPES)
    outcomes = pl.DataFrame([outcome_row(request_id, "main", "new")], schema_overrides={"failure": pl.String})
    scores, movements = evaluate(world.requests, goals, outcomes, values, world.space)
    row = scores.row(0, named=True)
    # r = (.2, 0, .5), m = (.1, .1, .5), e = (.1, -.1, 0)
    assert row["goal_space_id"] == SPACE_ID
    assert row["requested"] == pytest.approx(math.sqrt(0.29))
    assert row["error"] == pytest.approx(math.sqrt(0.02))
    assert row["miscalibration"] == pytest.approx(0.02 / 0.29)
    assert row["score"] == pytest.approx(0.27 / 0.29)
    assert row["error_worst"] == row["error"]
    # bins: asked +2 and +3, reached +1, +1, +3
    assert row["error_binned"] == pytest.approx(math.sqrt(2) / 7)
    assert row["error_permuted"] is None  # one request on a text has no other to be exchanged with
    assert movements["z_hat"].to_list() == pytest.approx([0.6, 0.6, 1.0])
    assert movements["overshoot"].to_list() == pytest.approx([0.0, 0.0, 0.2])
    assert movements["value"].to_list() == pytest.approx([8.0, 58.0, 130.0])


def test_failures_have_null_scores_and_their_worst_value(answered, scored):
    scores, movements = scored
    failed = scores.filter(pl.col("failure").is_not_null())
    assert set(failed["failure"]) == {"truncated", "empty", "undefined"}
    assert failed.select(SCORES).null_count().row(0) == (len(failed),) * len(SCORES)
    assert (failed["orthogonality_worst"] == 1.0).all()
    assert (failed["error_worst"] > failed["requested"]).all()
    fine = scores.filter(pl.col("failure").is_null())
    assert fine.select(SCORES).null_count().sum_horizontal()[0] == 0
    for measure in ("error", "miscalibration", "orthogonality"):
        assert (fine[measure] == fine[f"{measure}_worst"]).all()
    of_failed = movements.join(failed, on="request_id", how="semi")
    assert of_failed["z_hat"].null_count() == len(of_failed)
    # what was measured of a truncated text is kept, without a position
    truncated = movements.join(failed.filter(failure="truncated"), on="request_id", how="semi")
    assert truncated["value"].null_count() < len(truncated)


def test_an_undefined_measure_is_a_failure_by_that_name(answered, scored):
    undefined = answered.values.filter(pl.col("state") == "undefined")["text_id"]
    expected = answered.outcomes.filter(pl.col("failure").is_null() & pl.col("text_id").is_in(undefined.implode()))
    found = scored[0].filter(failure="undefined")
    assert len(expected) > 0
    assert set(found["request_id"]) == set(expected["request_id"])


def test_neither_row_order_nor_other_probes_change_a_number(answered, scored):
    shuffled = [table.sample(fraction=1.0, shuffle=True, seed=1) for table in answered.tables()]
    again, _ = evaluate(*shuffled)
    assert_frame_equal(again.sort("request_id"), scored[0].sort("request_id"))
    one = answered.outcomes.filter(probe="other")
    alone, _ = evaluate(answered.requests, answered.request_goals, one, answered.values, answered.space)
    assert_frame_equal(alone, scored[0].filter(probe="other"))


def test_rows_come_in_the_order_of_requests_and_goals_in_that_of_the_axes(answered, scored):
    assert scored[0]["request_id"].to_list() == answered.requests["request_id"].to_list()
    assert scored[1]["request_id"].unique(maintain_order=True).to_list() == answered.requests["request_id"].to_list()
    assert scored[1]["goal"].to_list() == list(GOALS) * len(answered.requests)


def test_new_bounds_need_no_new_measurement(answered):
    wider = answered.space.with_columns(lower=pl.Series(LOWER - 5), upper=pl.Series(UPPER + 5))
    goals = answered.request_goals.join(wider.select("goal", "lower", "upper"), on="goal", maintain_order="left")
    goals = goals.with_columns(
        ((pl.col("z0_raw") - pl.col("lower")) / (pl.col("upper") - pl.col("lower"))).clip(0, 1).alias("z0")
    ).drop("lower", "upper")
    scores, _ = evaluate(answered.requests, goals, answered.outcomes, answered.values, wider)
    check(scores, Steerability)


def broken(world, **changes):
    tables = dict(zip(("requests", "request_goals", "outcomes", "values", "space"), world.tables(), strict=True))
    return evaluate(*{**tables, **changes}.values())


def test_a_request_without_an_outcome_is_an_error(answered):
    with pytest.raises(SteerworksError, match=r"3 of 120 requests have no outcome.*resume"):
        broken(answered, outcomes=answered.outcomes.slice(3))


def test_an_outcome_of_another_draw_is_an_error(answered):
    with pytest.raises(SteerworksError, match="another draw of the probe"):
        broken(answered, requests=answered.requests.slice(1))


def test_an_outcome_without_a_measurement_is_an_error_unless_it_failed(answered):
    with pytest.raises(SteerworksError, match="no value of formality@1"):
        broken(answered, values=answered.values.filter(pl.col("scorer_id") != "formality@1"))


def test_requests_of_other_bounds_or_other_goals_are_an_error(answered):
    with pytest.raises(SteerworksError, match="drawn with other bounds"):
        broken(answered, space=answered.space.with_columns(upper=pl.col("upper") + 50))
    with pytest.raises(SteerworksError, match="'formality', which the goal space lacks"):
        broken(answered, space=answered.space.filter(pl.col("goal") != "formality"))
    with pytest.raises(SteerworksError, match="1 requests do not have exactly one row a goal"):
        broken(answered, request_goals=answered.request_goals.slice(1))


def test_a_probe_that_asks_for_nothing_is_scored(world):
    goals = world.request_goals.with_columns(z_star=pl.lit(None, dtype=pl.Float64))
    scores, movements = broken(world, request_goals=goals)
    check(scores, Steerability)
    check(movements, GoalMovements)
    assert scores.select("error", "miscalibration", "orthogonality", "error_worst").sum().row(0)[:3] == (0.0, 0.0, 0.0)
    assert scores["score"].null_count() == len(scores)
    assert closed_form_of_copy(scores)["largest_deviation"].max() == 0.0


def test_no_outcome_at_all_gives_empty_tables_that_keep_their_contracts(world):
    scores, movements = broken(world, outcomes=world.outcomes.clear())
    check(scores, Steerability)
    check(movements, GoalMovements)
    assert len(scores) == len(movements) == 0
