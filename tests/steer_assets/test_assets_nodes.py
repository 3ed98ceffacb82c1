"""Nodes: several tables under one name, skipped table by table, missing ones named, devices let go in time."""

import dagster as dg
import polars as pl
import pytest

from schemas import GoalSpaceTable
from steer_assets import compute
from steer_assets.devices import DEVICES
from steer_assets.io import read_published
from steer_assets.nodes import SHARED as GROUP
from steer_assets.nodes import Node, Nodes, build_asset
from steer_assets.settings import registry
from steer_assets.tables import table
from steer_core.tables.errors import TableError

GRID, SHARED, BOARD = "group:small_cells", "group:small_shared", "group:small_leaderboard"
OPTIONAL = {
    "fit_responses", "fit_outcomes", "fit_goal_values", "goal_contrasts", "vectors", "vector_tensors", "activation_map",
    "dose_response", "artifacts", "sweep_arms", "sweep_responses", "arm_answers", "arm_measures", "judgements",
    "arm_scores", "arm_summary", "sweep_findings",
}  # fmt: skip


def failures(result):
    return [
        (e.step_key, e.step_failure_data.user_failure_data.description) for e in result.all_events if e.is_step_failure
    ]


def materialized(result):
    return {e.asset_key.path[-1]: e.materialization for e in result.get_asset_materialization_events()}


def test_a_cell_whose_method_lacks_a_part_makes_nothing_for_it(workplace):
    workplace.materialize(SHARED)
    status, result = workplace.materialize(GRID, "copy|embedded")
    assert result.success
    assert not OPTIONAL & set(status)
    there = {p.name for p in (workplace.root / "small").iterdir()}
    assert not OPTIONAL & there
    # the node itself is done all the same, and what follows it runs
    assert set(materialized(result)) == {
        "fit_responses", "plans", "responses", "behaviors", "scores", "steerability_report",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("node", "first"),
    [("responses", "small/goal_mappings"), ("scores", "small/responses of cell direct|embedded")],
)
def test_a_cell_without_data_names_what_to_materialize_first(workplace, node, first):
    if node == "scores":
        workplace.materialize(SHARED)
    _, result = workplace.materialize(f'key:"small/{node}"', "direct|embedded", raise_on_error=False)
    ((_, said),) = failures(result)
    assert "there is no table" in said
    named = "small/probes" if node == "responses" else first
    assert f"materialize {named} first (dagster asset materialize" in said


def test_a_leaderboard_without_cells_or_probes_names_what_to_materialize_first(workplace):
    _, result = workplace.materialize(BOARD, raise_on_error=False)
    ((_, said),) = failures(result)
    assert "materialize small/probes first" in said


def test_missing_controls_are_named_and_on_request_made_first(workplace):
    workplace.materialize(SHARED)
    _, result = workplace.materialize(GRID, "direct|embedded")
    said = materialized(result)["scores"].metadata["missing controls"].value
    assert said == "copy|embedded, rewrite|embedded"
    config = {"ops": {"small__scores": {"config": {"with_controls": True}}}}
    status, result = workplace.materialize(GRID, "direct|embedded", config=config)
    of = {}
    for e in result.get_asset_materialization_events():
        of.setdefault(e.partition, set()).add(e.asset_key.path[-1])
    made = {"fit_responses", "plans", "responses", "scores"}
    assert of["copy|embedded"] == of["rewrite|embedded"] == made
    assert status["comparisons"] == status["report"] == "written"
    compared = pl.read_parquet(workplace.table("comparisons", "direct|embedded"), hive_partitioning=False)
    assert {"copy", "rewrite"} <= set(compared["control"])
    # a control that is there is not made again
    _, result = workplace.materialize(GRID, "direct|embedded", config=config)
    assert {e.partition for e in result.get_asset_materialization_events()} == {"direct|embedded"}
    # one that is out of date is named, and made again on request
    workplace.configure(decoding={"max_new_tokens": 20})
    _, result = workplace.materialize(GRID, "direct|embedded")
    said = materialized(result)["scores"].metadata
    assert said["controls out of date"].value == "copy|embedded, rewrite|embedded"
    assert "missing controls" not in said
    _, result = workplace.materialize(GRID, "direct|embedded", config=config)
    assert {e.partition for e in result.get_asset_materialization_events()} == set(of)
    _, result = workplace.materialize(GRID, "direct|embedded")
    assert "controls out of date" not in materialized(result)["scores"].metadata


def test_what_calls_the_model_runs_first_and_lets_go_of_it_before_scores_and_page(workplace, monkeypatch):
    workplace.materialize(SHARED)
    held = {}
    from steer_assets import nodes

    run_step = nodes.run_step

    def watched(spec, work, catalog):
        held.setdefault(spec.name, (sorted(DEVICES.held), len(compute._HELD)))
        return run_step(spec, work, catalog)

    monkeypatch.setattr(nodes, "run_step", watched)
    _, result = workplace.materialize(GRID, "direct|embedded")
    order = [e.step_key.removeprefix("small__") for e in result.all_events if e.is_step_success]
    assert order == ["fit_responses", "plans", "responses", "behaviors", "scores", "steerability_report"]
    # the answers took the device and kept it, with the weights, for the sweep
    assert held["sweep_responses"] == (["cpu"], 1)
    assert held["response_goal_values"] == held["report"] == ([], 0)


def test_a_failed_node_lets_go_of_the_device(workplace, monkeypatch):
    from steer_core.methods import driver

    workplace.materialize(SHARED)

    def broken(*args, **kwargs):
        assert DEVICES.held
        raise RuntimeError("out of memory")

    monkeypatch.setattr(driver, "run_method", broken)
    _, result = workplace.materialize(GRID, "direct|embedded", raise_on_error=False)
    assert not result.success
    assert not DEVICES.held


def test_an_unchanged_cell_costs_few_events_and_checks_no_contract_again(workplace, monkeypatch):
    from steer_core.tables import snapshot

    workplace.materialize(SHARED)
    workplace.materialize(GRID, "direct|embedded")

    def never(*args, **kwargs):
        raise AssertionError("the digest vouches for these rows")

    monkeypatch.setattr(snapshot, "check", never)
    status, result = workplace.materialize(GRID, "direct|embedded")
    assert set(status.values()) == {"unchanged"}
    assert len(result.all_events) < 80


def test_a_table_edited_within_its_contract_is_refused_by_readers_and_made_again_by_its_node(workplace):
    workplace.materialize(SHARED)
    path = workplace.table("goal_space")
    footer = pl.read_parquet_metadata(path)["steerworks"]
    rows = pl.read_parquet(path, hive_partitioning=False)
    edited = rows.with_columns(pl.col("high") + 1.0) if "high" in rows.columns else rows.reverse()
    edited.write_parquet(path, metadata={"steerworks": footer})
    with pytest.raises(TableError, match="is not what was published"):
        read_published(str(path), GoalSpaceTable)
    _, result = workplace.materialize('key:"small/plans"', "direct|embedded", raise_on_error=False)
    ((_, said),) = failures(result)
    assert "is not what was published" in said
    status, _ = workplace.materialize('key:"small/goal_mappings"')
    assert status == {"corpus_goal_values": "unchanged", "goal_space": "written"}


def test_the_version_of_a_node_changes_with_its_rows_and_not_with_its_runs(workplace):
    def version(result):
        return materialized(result)["probes"].tags["dagster/data_version"]

    _, first = workplace.materialize(SHARED)
    _, again = workplace.materialize(SHARED)
    workplace.configure(probes=[{**p, "seed": 5} for p in workplace.bench["probes"]])
    _, other = workplace.materialize(SHARED)
    assert version(first) == version(again) != version(other)


def test_rows_that_break_their_contract_turn_the_check_red_and_nothing_is_written(workplace):
    @table(GoalSpaceTable, version="1")
    def bad_space(work):
        """Not a goal space."""
        return pl.DataFrame({"goal": ["formality"]})

    nodes = Nodes([Node("bad", (bad_space,), "Broken", GROUP)], registry().bench("small"))
    asset = build_asset(nodes.all[0], registry().bench("small"), nodes)
    result = dg.materialize([asset], instance=workplace.instance, raise_on_error=False)
    (check,) = result.get_asset_check_evaluations()
    assert not check.passed
    assert check.metadata["table"].value == "bad_space"
    assert "missing column" in check.metadata["broken"].value
    assert not workplace.table("bad_space").exists()


def test_the_page_is_a_link_that_a_browser_opens(workplace, monkeypatch):
    import urllib.request

    from steer_assets import dev

    with __import__("socket").socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("STEERWORKS_EXPLORE", f"http://localhost:{port}")
    workplace.materialize(SHARED)
    _, result = workplace.materialize(GRID, "copy|embedded")
    metadata = materialized(result)["steerability_report"].metadata
    with dev.serving_explorer():
        page = urllib.request.urlopen(metadata["page"].value, timeout=10).read()
        assert b"<html" in page
        # and on into the explorer, from both
        assert b'href="/small/samples?cell=copy%7Cembedded"' in page
        samples = urllib.request.urlopen(metadata["explorer"].value, timeout=10).read().decode()
    rows = pl.read_parquet(workplace.table("outcomes", "copy|embedded"), hive_partitioning=False)
    assert f"<b>{rows.height} samples</b>" in samples
