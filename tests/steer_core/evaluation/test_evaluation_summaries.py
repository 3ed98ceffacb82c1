import numpy as np
import polars as pl
import pytest
from evaluation_world import GOALS, make_world, steered
from polars.testing import assert_frame_equal

from schemas import Comparisons, Leaderboard, SideEffects, SteerabilitySummary
from steer_core.evaluation import compare, evaluate, leaderboard, side_effects, summarise
from steer_core.tables import SteerworksError, check

DRAWS = {"draws": 200, "seed": 5}
SHUFFLES = {"permutations": 60, "seed": 0}


@pytest.fixture(scope="module")
def copied():
    return evaluate(*make_world(n_texts=12).tables())


@pytest.fixture(scope="module")
def scored():
    return evaluate(*steered(make_world(n_texts=12)).tables())


@pytest.fixture(scope="module")
def summary(scored):
    return summarise(*scored, **DRAWS)


def figure(table, measure, goal="overall", reading="complete", statistic="mean", probe="main"):
    rows = table.filter(probe=probe, measure=measure, goal=goal, reading=reading, statistic=statistic)
    assert len(rows) == 1
    return rows.row(0, named=True)


def test_the_summary_keeps_its_contract(summary):
    check(summary, SteerabilitySummary)
    assert summary["probe"].unique().sort().to_list() == ["main", "other"]


@pytest.mark.parametrize(
    "measure", ["error", "orthogonality", "error_binned", "score", "error_permuted", "meaning_chrf"]
)
def test_figures_are_the_statistics_of_complete_cases(scored, summary, measure):
    values = scored[0].filter(pl.col("failure").is_null(), probe="main")[measure].drop_nulls().to_numpy()
    assert figure(summary, measure)["value"] == pytest.approx(values.mean())
    assert figure(summary, measure, statistic="median")["value"] == pytest.approx(np.median(values))
    iqr = np.subtract(*np.quantile(values, [0.75, 0.25]))
    row = figure(summary, measure, statistic="iqr")
    assert row["value"] == pytest.approx(iqr)
    assert row["n"] == len(values)
    assert row["n_clusters"] == 12
    assert row["low"] <= row["value"] <= row["high"]


def test_the_worst_reading_counts_every_request_and_is_worse(scored, summary):
    for measure in ("error", "miscalibration", "orthogonality"):
        worst, complete = figure(summary, measure, reading="worst"), figure(summary, measure)
        assert worst["n"] == 72 > complete["n"]
        assert worst["value"] > complete["value"]
        assert worst["value"] == pytest.approx(scored[0].filter(probe="main")[f"{measure}_worst"].mean())


def test_rates_are_shares_of_all_requests(scored, summary):
    here = scored[0].filter(probe="main")
    shares = {kind: figure(summary, kind)["value"] for kind in ("empty", "truncated", "undefined", "refused")}
    for kind, share in shares.items():
        assert share == pytest.approx((here["failure"] == kind).sum() / 72)
    assert figure(summary, "failed")["value"] == pytest.approx(sum(shares.values()))
    assert figure(summary, "failed")["n"] == 72
    assert figure(summary, "copied")["value"] == 0.0


def test_goal_figures_split_what_was_asked_from_what_drifted(scored, summary):
    rows = (
        scored[1]
        .filter(probe="main", goal="formality")
        .join(scored[0].filter(pl.col("failure").is_null()), on="request_id", how="semi")
    )
    active, idle = rows.filter(pl.col("z_star").is_not_null()), rows.filter(pl.col("z_star").is_null())
    assert figure(summary, "error", "formality")["value"] == pytest.approx(
        (active["z_star"] - active["z_hat"]).abs().mean()
    )
    assert figure(summary, "drift", "formality")["value"] == pytest.approx((idle["z_hat"] - idle["z0"]).abs().mean())
    assert figure(summary, "error", "formality")["n"] + figure(summary, "drift", "formality")["n"] == len(rows)


def test_the_move_ratio_finds_the_gain_of_the_method():
    scores, moved = evaluate(
        *steered(make_world(20, probes=("main",)), gain=0.6, noise=0.05, failures=False).tables(),
    )
    found = summarise(scores, moved, **DRAWS)
    for goal in GOALS:
        assert figure(found, "move_ratio", goal)["value"] == pytest.approx(0.6, abs=0.05)
        order = figure(found, "concordance", goal)
        assert 0.5 < order["low"] < order["value"] <= order["high"]


def test_a_copy_moves_nothing_and_never_drifts(copied):
    found = summarise(*copied, **DRAWS)
    assert figure(found, "copied")["value"] == 1.0
    assert figure(found, "miscalibration")["value"] == 1.0
    for goal in GOALS:
        assert figure(found, "move_ratio", goal)["value"] == pytest.approx(0.0, abs=1e-12)
        # every pair is tied, and half of a tie is right
        assert [figure(found, "concordance", goal)[k] for k in ("value", "low", "high")] == [0.5] * 3
        assert figure(found, "drift", goal)["value"] == pytest.approx(0.0, abs=1e-12)


def test_equal_seeds_give_equal_summaries_whatever_the_order_of_rows(scored, summary):
    shuffled = [table.sample(fraction=1.0, shuffle=True, seed=2) for table in scored]
    keys = ["probe", "measure", "goal", "reading", "statistic"]
    assert_frame_equal(summarise(*shuffled, **DRAWS).sort(keys), summary.sort(keys))
    assert_frame_equal(summarise(*scored, **DRAWS), summary)


def test_a_probe_summarised_alone_has_the_same_figures(scored, summary):
    alone = summarise(*(table.filter(probe="other") for table in scored), **DRAWS)
    assert_frame_equal(alone, summary.filter(probe="other"))


def test_a_cell_in_which_everything_failed_still_has_a_summary(scored):
    scores, moved = scored
    failing = set(scores.filter(failure="truncated")["request_id"])
    scores, moved = (table.filter(pl.col("request_id").is_in(failing)) for table in (scores, moved))
    found = check(summarise(scores, moved, **DRAWS), SteerabilitySummary)
    assert figure(found, "error")["value"] is None
    assert figure(found, "error", reading="worst")["value"] > 0
    assert figure(found, "failed")["value"] == 1.0


def test_movements_without_scores_and_mixed_goal_spaces_are_errors(scored):
    scores, moved = scored
    with pytest.raises(SteerworksError, match="without a score"):
        summarise(scores.slice(1), moved, **DRAWS)
    with pytest.raises(SteerworksError, match="no score"):
        side_effects(moved, scores.slice(1))
    mixed = scores.with_columns(
        goal_space_id=pl.when(pl.int_range(pl.len()) == 0).then(pl.lit("b")).otherwise("goal_space_id")
    )
    with pytest.raises(SteerworksError, match="2 goal spaces"):
        summarise(mixed, moved, **DRAWS)


def contrast(table, control, measure="error", reading="complete", probe="main"):
    rows = table.filter(probe=probe, control=control, measure=measure, reading=reading)
    assert len(rows) == 1
    return rows.row(0, named=True)


def test_a_cell_is_compared_on_the_requests_that_both_answered(scored, copied):
    table = check(compare(*scored, {"copy": copied[0]}, **SHUFFLES), Comparisons)
    both = (
        scored[0].join(copied[0], on="request_id", suffix="_copy").filter(pl.col("error").is_not_null(), probe="main")
    )
    row = contrast(table, "copy")
    assert row["n"] == len(both)
    assert row["value"] == pytest.approx(both["error"].mean())
    assert row["control_value"] == pytest.approx(both["error_copy"].mean())
    assert row["difference"] == pytest.approx(row["value"] - row["control_value"])
    assert row["relative"] == pytest.approx(row["difference"] / row["control_value"])
    assert row["share_better"] == pytest.approx((both["error"] < both["error_copy"]).mean())
    assert row["high"] < 0  # this method does steer
    assert contrast(table, "copy", reading="worst")["n"] == 72


def test_the_permuted_control_is_the_cells_own(scored):
    table = check(compare(*scored, {}, **SHUFFLES), Comparisons)
    assert set(table["control"]) == {"permuted"}
    fine = scored[0].filter(pl.col("failure").is_null(), probe="main")
    assert contrast(table, "permuted")["control_value"] == pytest.approx(fine["error_permuted"].mean())
    worst = contrast(table, "permuted", reading="worst")
    assert worst["n"] == 72
    # failed rows cost the same on both sides
    assert worst["difference"] * 72 == pytest.approx(contrast(table, "permuted")["difference"] * len(fine))


def test_a_cell_compared_with_itself_differs_by_nothing(scored):
    row = contrast(compare(*scored, {"same": scored[0]}, **SHUFFLES), "same")
    assert (row["difference"], row["low"], row["high"], row["share_better"]) == (0.0, 0.0, 0.0, 0.0)


def test_a_control_without_common_requests_has_no_figures(scored, copied):
    foreign = copied[0].with_columns(request_id="x" + pl.col("request_id"))
    row = contrast(check(compare(*scored, {"copy": foreign}, **SHUFFLES), Comparisons), "copy")
    assert (row["n"], row["difference"], row["low"]) == (0, None, None)


def test_results_never_compare_across_goal_spaces(scored, copied):
    with pytest.raises(SteerworksError, match="goal space other"):
        compare(*scored, {"copy": copied[0].with_columns(goal_space_id=pl.lit("other"))}, **SHUFFLES)
    with pytest.raises(SteerworksError, match="permuted"):
        compare(*scored, {"permuted": copied[0]}, **SHUFFLES)


def test_side_effects_find_a_coupling_that_was_built_in():
    world = steered(make_world(25, probes=("main",)), gain=0.5, noise=0.02, failures=False)
    scores, moved = evaluate(*world.tables())
    wide = moved.pivot("goal", index="request_id", values=["z0", "z_star"])
    asked = (wide["z_star_formality"] - wide["z0_formality"]).fill_null(0.0)
    shift = dict(zip(wide["request_id"], asked * 0.4, strict=True))
    is_length = pl.col("goal") == "text_length"
    coupled = moved.with_columns(
        z_hat=pl.when(is_length)
        .then(pl.col("z0") + pl.col("request_id").replace_strict(shift, return_dtype=pl.Float64))
        .otherwise("z_hat")
    )
    table = check(side_effects(coupled, scores), SideEffects)
    assert len(table) == 9
    entry = table.filter(requested_goal="formality", observed_goal="text_length").row(0, named=True)
    assert entry["slope"] == pytest.approx(0.4)
    assert entry["correlation"] == pytest.approx(1.0)
    own = table.filter(requested_goal="formality", observed_goal="formality").row(0, named=True)
    assert own["low"] < own["slope"] < own["high"]
    assert own["slope"] == pytest.approx(0.5, abs=0.08)
    on_text = moved.join(scores.select("request_id", "text_id"), on="request_id").filter(
        pl.col("z_star").is_not_null(), goal="formality"
    )
    assert own["n"] == on_text.filter(pl.len().over("text_id") > 1).height


def test_side_effects_of_a_copy_are_zero_without_a_correlation(copied):
    table = check(side_effects(copied[1], copied[0]), SideEffects)
    np.testing.assert_allclose(table["slope"], 0.0, atol=1e-12)
    assert table["correlation"].null_count() == len(table)


def named(table, model, method):
    return table.with_columns(model=pl.lit(model), method=pl.lit(method))


def board_inputs(scored, copied):
    cells = {("small", "copy"): copied, ("small", "direct"): scored, ("big", "direct"): scored}
    summaries = pl.concat([named(summarise(*cell, **DRAWS), *key) for key, cell in cells.items()])
    steerability = pl.concat([named(cell[0], *key) for key, cell in cells.items()])
    costs = pl.DataFrame(
        [
            {"model": m, "method": t, "probe": p, "completion_tokens": 20.0 if t == "direct" else 0.0}
            for m, t in cells
            for p in ("main", "other")
        ]
    )
    return summaries, costs, steerability, ["copy", "rewrite"]


def test_the_leaderboard_ranks_by_worst_case_error_within_a_probe(scored, copied):
    board = check(leaderboard(*board_inputs(scored, copied)), Leaderboard)
    main = board.filter(probe="main")
    assert main["error"].is_sorted()
    # the copy fails nowhere; the two equal cells share a rank
    ranks = dict(zip(main.select(pl.concat_str("model", "method", separator="/"))["model"], main["rank"], strict=True))
    assert ranks["big/direct"] == ranks["small/direct"]
    assert sorted(main["rank"].to_list()) in ([1, 1, 3], [1, 2, 2])
    direct = main.filter(model="small", method="direct").row(0, named=True)
    assert direct["n"] == 72
    assert direct["completion_tokens"] == 20.0
    assert main.filter(method="copy")["copied"].item() == 1.0
    assert main.filter(model="big")["vs_copy"].item() is None


def test_every_error_of_the_leaderboard_is_of_one_reading(scored, copied):
    board = leaderboard(*board_inputs(scored, copied)).filter(probe="main")
    direct = board.filter(model="small", method="direct").row(0, named=True)
    worst = scored[0].filter(probe="main")["error_worst"].mean()
    copy = copied[0].filter(probe="main")["error_worst"].mean()
    assert direct["failed"] > 0.1
    assert direct["error"] == pytest.approx(worst)
    assert direct["error_low"] < direct["error"] < direct["error_high"]
    assert direct["vs_copy"] == pytest.approx(worst / copy - 1)
    assert direct["vs_copy_low"] < direct["vs_copy"] < direct["vs_copy_high"]


def test_cells_are_held_against_the_best_method_request_by_request(scored, copied):
    summaries, costs, steerability, controls = board_inputs(scored, copied)
    # a method that is a hair worse on every request, and no worse on any
    hair = scored[0].with_columns(pl.col("error", "error_worst") + 0.01)
    summaries = pl.concat([summaries, named(summarise(hair, scored[1], **DRAWS), "small", "hair")])
    costs = pl.concat([costs, costs.filter(method="direct", model="small").with_columns(method=pl.lit("hair"))])
    steerability = pl.concat([steerability, named(hair, "small", "hair")])
    board = leaderboard(summaries, costs, steerability, controls).filter(probe="main")
    row = board.filter(method="hair").row(0, named=True)
    best = board.filter(pl.col("method") != "copy").row(0, named=True)
    assert row["best"] == f"{best['method']}|{best['model']}"
    assert row["error_low"] < best["error_high"]  # the intervals overlap
    assert row["vs_best_low"] == pytest.approx(0.01)
    assert (best["vs_best"], best["vs_best_low"], best["vs_best_high"]) == (0.0, 0.0, 0.0)


def test_cells_of_different_goal_spaces_are_ranked_apart(scored, copied):
    summaries, costs, steerability, controls = board_inputs(scored, copied)
    together = leaderboard(summaries, costs, steerability, controls).filter(probe="main")
    last = together.filter(pl.col("rank") == pl.col("rank").max()).row(0, named=True)
    assert last["rank"] > 1
    is_last = (pl.col("model") == last["model"]) & (pl.col("method") == last["method"])
    split = summaries.with_columns(goal_space_id=pl.when(is_last).then(pl.lit("b")).otherwise("goal_space_id"))
    board = leaderboard(split, costs, steerability, controls).filter(probe="main")
    assert board.filter(goal_space_id="b").select("model", "method", "rank").rows() == [
        (last["model"], last["method"], 1)
    ]
    assert board.filter(pl.col("goal_space_id") != "b")["rank"].min() == 1


def test_a_cell_without_a_cost_is_an_error(scored, copied):
    summaries, costs, steerability, controls = board_inputs(scored, copied)
    known = costs.filter((pl.col("model") != "big") | (pl.col("probe") != "main"))
    with pytest.raises(SteerworksError, match=r"direct\|big on probe 'main'"):
        leaderboard(summaries, known, steerability, controls)


def test_empty_tables_give_empty_tables_that_keep_their_contracts(scored):
    scores, moved = (table.clear() for table in scored)
    assert len(check(summarise(scores, moved, **DRAWS), SteerabilitySummary)) == 0
    assert len(check(compare(scores, moved, {"copy": scores}, **SHUFFLES), Comparisons)) == 0
    assert len(check(side_effects(moved, scores), SideEffects)) == 0
