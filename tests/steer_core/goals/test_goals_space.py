"""Goal space: percentiles or fixed bounds, clipping with the overshoot kept, an id that follows all of it."""

import numpy as np
import polars as pl
import pytest

from schemas import GoalSpaceTable
from schemas.specs import BoundsSpec
from steer_core.goals.space import GoalSpace, fit_goal_space
from steer_core.tables import check
from steer_core.tables.errors import SteerworksError

VALUES = pl.DataFrame(
    {"text_id": [f"t{i}" for i in range(101)], "scorer_id": "a@1", "value": np.arange(101.0), "state": "ok"}
)


def test_percentile_bounds_are_the_middle_of_the_corpus():
    table = fit_goal_space(VALUES, {"a": "a@1"}, BoundsSpec())
    check(table, GoalSpaceTable)
    assert table.select("lower", "upper", "bounds", "n_texts").row(0) == (2.5, 97.5, "percentile", 101)


def test_fixed_bounds_are_taken_as_they_are():
    table = fit_goal_space(VALUES, {"a": "a@1"}, BoundsSpec(fixed={"a": (2.8, 12.9)}))
    assert table.select("lower", "upper", "bounds").row(0) == (2.8, 12.9, "fixed")


def test_clipping_keeps_the_overshoot():
    space = GoalSpace(("a",), ("a@1",), np.array([0.0]), np.array([10.0]))
    z, overshoot = space.locate(np.array([[-5.0], [5.0], [12.0], [np.nan]]))
    assert z[:3, 0].tolist() == [0.0, 0.5, 1.0]
    assert overshoot[:3, 0].tolist() == pytest.approx([-0.5, 0.0, 0.2])
    assert np.isnan(z[3, 0])


def test_the_id_follows_goals_scorers_and_bounds_and_survives_the_table():
    space = GoalSpace(("a",), ("a@1",), np.array([0.0]), np.array([10.0]))
    same = GoalSpace.from_table(space.to_table({}, {}))
    assert same.id == space.id
    others = [
        GoalSpace(("b",), ("a@1",), space.lower, space.upper),
        GoalSpace(("a",), ("a@2",), space.lower, space.upper),
        GoalSpace(("a",), ("a@1",), space.lower, space.upper + 1e-9),
    ]
    assert len({space.id, *(o.id for o in others)}) == 4


def test_bounds_without_width_are_refused():
    flat = VALUES.with_columns(value=pl.lit(3.0))
    with pytest.raises(SteerworksError, match=r"goal 'a' has bounds 3.0 .. 3.0: they need a width"):
        fit_goal_space(flat, {"a": "a@1"}, BoundsSpec())
    with pytest.raises(ValueError, match="no width"):
        BoundsSpec(fixed={"a": (1.0, 1.0)})


def test_a_goal_that_is_undefined_everywhere_is_named():
    undefined = VALUES.with_columns(value=pl.lit(None, dtype=pl.Float64), state=pl.lit("undefined"))
    with pytest.raises(SteerworksError, match="undefined on every text"):
        fit_goal_space(undefined, {"a": "a@1"}, BoundsSpec())
