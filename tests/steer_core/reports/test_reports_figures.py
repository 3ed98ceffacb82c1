import polars as pl
import pytest
from fixture_tables import GOALS, PROBE, cell_tables

from steer_core.reports.drawing import VARIABLES, Figure, Panel, inline_svg, render, thin
from steer_core.reports.examples import examples, in_words
from steer_core.reports.files import bundle
from steer_core.reports.flow import GRID_CELLS, flow_pairs, mean_flow, moves_of_pair
from steer_core.reports.inputs import of_probe
from steer_core.reports.page import Axis
from steer_core.reports.per_goal import per_goal_table


@pytest.fixture(scope="module")
def tables():
    return of_probe(cell_tables(), PROBE)


def test_thinning_keeps_few_rows_spread_over_all():
    rows = pl.DataFrame({"i": range(1000)})
    kept = thin(rows, 300)["i"]
    assert len(kept) == 300
    assert (kept[0], kept[-1]) == (0, 996)
    assert thin(rows, 1000).height == 1000


def test_a_panel_is_drawn_with_ids_of_its_own_and_colours_of_the_page():
    panel = Panel("title", lambda axes: axes.plot([0, 1], [0, 1], "o", color=next(iter(VARIABLES))))
    figure = render(Figure("name", "title", "alt", (panel, panel), pl.DataFrame()))
    first, second = figure.svgs
    assert 'id="name-0-' in first
    assert 'id="name-1-' in second
    assert "var(--ink)" in first
    assert "<style" not in first
    assert 'role="img"' in first


def test_alternative_text_is_escaped():
    svg = inline_svg('<svg width="1" viewBox="0 0 1 1"></svg>', "p", 'a "b" <c>', 2.0)
    assert 'aria-label="a &quot;b&quot; &lt;c&gt;"' in svg


def test_an_svg_without_a_scale_is_refused():
    with pytest.raises(ValueError, match="no viewBox"):
        inline_svg("<svg></svg>", "p", "a", 1.0)


def test_flow_pairs_each_goal_with_what_it_drags_along(tables):
    pairs = dict(flow_pairs(tables))
    assert list(pairs) == list(GOALS)
    assert pairs["reading_difficulty"] == "text_length"
    assert pairs["text_length"] == "reading_difficulty"


def test_flow_holds_only_requests_that_leave_the_second_goal_alone(tables):
    moves = moves_of_pair(tables.movements, "sentiment", "formality")
    targets = tables.request_goals.filter(pl.col("z_star").is_not_null())
    asked = set(targets.filter(goal="sentiment")["request_id"]) - set(targets.filter(goal="formality")["request_id"])
    complete = set(tables.steerability.filter(pl.col("failure").is_null())["request_id"])
    assert set(moves["request_id"]) == asked & complete


def test_mean_flow_is_the_mean_of_its_cell(tables):
    moves = moves_of_pair(tables.movements, "sentiment", "formality")
    flow = mean_flow(moves)
    assert flow["n"].sum() == moves.height
    row = flow.filter(up=True, cell_x0=0, cell_y0=1).row(0, named=True)
    edge = 1 / GRID_CELLS
    members = moves.filter(pl.col("up"), pl.col("x0") < edge, pl.col("y0") >= edge, pl.col("y0") < 2 * edge)
    assert row["n"] == members.height
    assert row["x1"] == pytest.approx(members["x1"].mean())


def test_a_start_on_the_upper_bound_belongs_to_the_last_cell():
    moves = pl.DataFrame({"x0": [1.0], "y0": [1.0], "x1": [0.5], "y1": [1.0], "x_star": [0.4], "up": [False]})
    assert mean_flow(moves).select("cell_x0", "cell_y0").row(0) == (GRID_CELLS - 1, GRID_CELLS - 1)


def test_per_goal_figures_are_those_of_the_summary(tables):
    table = per_goal_table(tables)
    assert table["goal"].to_list() == list(GOALS)
    summary = tables.summary.filter(measure="drift", goal="formality")
    assert table.filter(goal="formality")["drift"][0] == summary["value"][0]
    moved = tables.movements.filter(goal="formality")["overshoot"].drop_nulls()
    assert table.filter(goal="formality")["share_above"][0] == pytest.approx((moved > 0).mean())


@pytest.mark.parametrize(
    ("deltas", "words"),
    [
        ({}, "leave everything as it is"),
        ({"formality": 0.3}, "more formal"),
        ({"formality": 0.6, "text_length": -0.15}, "much more formal and slightly shorter"),
        (
            {"reading_difficulty": -0.6, "formality": 0.3, "sentiment": 0.1},
            "much easier to read, more formal and slightly more positive in tone",
        ),
    ],
)
def test_requests_are_told_in_words(deltas, words):
    assert in_words(GOALS, deltas) == words


def test_examples_are_ordered_by_the_share_left(tables):
    found = examples(tables)
    left = {kind: [e.error / e.requested for e in found if e.kind == kind] for kind in ("best", "typical", "worst")}
    assert max(left["best"]) < min(left["typical"]) <= max(left["typical"]) < min(left["worst"])
    rows = tables.steerability.filter(pl.col("error").is_not_null())
    assert min(left["best"]) == (rows["error"] / rows["requested"]).min()


def test_failed_examples_are_of_different_kinds_first(tables):
    failed = [e.failure for e in examples(tables) if e.kind == "failed"]
    kinds = tables.steerability["failure"].drop_nulls().n_unique()
    assert len(set(failed[:kinds])) == kinds


def test_an_example_shows_the_prompt_that_was_sent(tables):
    example = examples(tables)[0]
    assert example.prompt is not None
    assert example.prompt.text == "user: Please rewrite the following text so that it is shorter."


def test_positions_stay_on_the_track():
    axis = Axis(0.0, 2.0)
    assert [axis.at(v) for v in (-1.0, 0.5, 9.0)] == [0.0, 25.0, 100.0]
    assert Axis(1.0, 1.0).at(1.0) == 50.0


def test_a_page_too_heavy_for_a_phone_is_refused():
    with pytest.raises(ValueError, match="draw fewer points"):
        bundle("x" * 3_000_001, "t", [], {}, "", {})


def test_two_files_of_one_name_are_refused():
    figure = render(Figure("same", "t", "a", (), pl.DataFrame({"x": [1]}), "nothing"))
    with pytest.raises(ValueError, match="share a name"):
        bundle("", "t", [figure, figure], {}, "", {})
