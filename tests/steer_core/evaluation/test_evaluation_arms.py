"""Arms on the probe: each is scored as if it stood alone, and the ranking takes the headline."""

import polars as pl
import pytest
from evaluation_world import make_world, steered
from polars.testing import assert_frame_equal

from schemas import Comparisons, GoalMovements, SideEffects, Steerability, SteerabilitySummary
from steer_core.evaluation import compare, evaluate, leaderboard, side_effects, summarise
from steer_core.tables import check

ARM = "an-arm"


@pytest.fixture(scope="module")
def worlds():
    base = make_world(n_texts=12, probes=("main",))
    weak, strong = steered(base, gain=0.2, seed=3, tag=" feebly"), steered(base, gain=0.8, seed=4)
    both = pl.concat([strong.outcomes, weak.outcomes.with_columns(arm_id=pl.lit(ARM))])
    values = pl.concat([strong.values, weak.values]).unique(["text_id", "scorer_id"], keep="first")
    return strong, (base.requests, base.request_goals, both, values, base.space)


def of(table, arm_id):
    return table.filter(pl.col("arm_id") == arm_id).drop("arm_id")


def test_each_arm_has_the_figures_that_it_has_alone(worlds):
    strong, tables = worlds
    scores, moved = evaluate(*tables)
    check(scores, Steerability)
    check(moved, GoalMovements)
    alone = evaluate(*strong.tables())
    assert_frame_equal(of(scores, "headline"), of(alone[0], "headline"))
    summary = check(summarise(scores, moved, draws=100, seed=0), SteerabilitySummary)
    assert_frame_equal(of(summary, "headline"), of(summarise(*alone, draws=100, seed=0), "headline"))
    contrasts = check(compare(scores, moved, {"same": scores}, permutations=50, seed=0), Comparisons)
    own = contrasts.filter(arm_id="headline", control="same", measure="error", reading="worst").row(0, named=True)
    other = contrasts.filter(arm_id=ARM, control="same", measure="error", reading="worst").row(0, named=True)
    assert own["difference"] == 0.0
    assert other["difference"] > 0.0  # held against the headline of the control
    effects = check(side_effects(moved, scores), SideEffects)
    diagonal = effects.filter(pl.col("requested_goal") == pl.col("observed_goal"))
    assert diagonal.filter(arm_id=ARM)["slope"].mean() < diagonal.filter(arm_id="headline")["slope"].mean()


def test_a_cell_is_ranked_by_its_headline(worlds):
    _, tables = worlds
    scores, moved = evaluate(*tables)
    named = {"model": pl.lit("m"), "method": pl.lit("a")}
    summary = summarise(scores, moved, draws=50, seed=0).with_columns(**named)
    costs = pl.DataFrame({"model": ["m"], "method": ["a"], "probe": ["main"], "completion_tokens": [1.0]})
    board = leaderboard(summary, costs, scores.with_columns(**named), [])
    assert board.height == 1
    assert board["error"][0] == pytest.approx(scores.filter(arm_id="headline")["error_worst"].mean())
