"""The graph as Dagster sees it: loads without torch, keys, metadata, schedules, both locations."""

import subprocess
import sys

import dagster as dg
import pytest

from steer_assets import compute, definitions
from steer_assets.assets import nodes_of
from steer_assets.build import build_definitions
from steer_assets.contracts import table_schema
from steer_assets.jobs import cell_job, missing_cells, weekly_cells
from steer_assets.partitions import all_cells, read_key, valid_cells
from steer_assets.settings import registry
from steer_core.tables.errors import ConfigError


def test_loading_the_definitions_imports_nothing_heavy():
    code = (
        "import steer_assets.definitions, steer_assets.cpu, steer_assets.gpu, sys;"
        "heavy = {'torch', 'transformers', 'datasets', 'matplotlib', 'sklearn', 'scipy.stats'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_asset_graph_is_as_recorded(snapshot):
    specs = sorted(definitions.defs.resolve_all_asset_specs(), key=lambda s: s.key)
    graph = {
        s.key.to_user_string(): {
            "deps": sorted(d.asset_key.to_user_string() for d in s.deps),
            "group": s.group_name,
            "kinds": sorted(s.kinds),
            "owners": list(s.owners),
            "partitions": s.partitions_def.partition_dimension_names if s.partitions_def else None,
            "tables": {
                name.removeprefix("columns of "): [c.name for c in schema.columns]
                for name, schema in s.metadata.items()
                if isinstance(schema, dg.TableSchema)
            },
        }
        for s in specs
    }
    assert graph == snapshot


def test_every_asset_is_described():
    for spec in definitions.defs.resolve_all_asset_specs():
        assert spec.description, spec.key
        assert spec.group_name != "default", spec.key
        assert spec.code_version, spec.key


def test_a_bench_is_twelve_nodes_and_every_table_belongs_to_one():
    nodes = nodes_of(registry().bench("tales"))
    names = [n.name for n in nodes.all]
    assert names == [
        "seed_corpus", "goal_mappings", "probes", "contrasts", "fit_responses", "vectors", "plans", "responses", "behaviors",
        "scores", "steerability_report", "leaderboard",
    ]  # fmt: skip
    tables = [t for n in nodes.all for t in n.outputs]
    assert len(tables) == len(set(tables)) == 52
    # a node reads only what nodes before it make, so that their order is an order in which they can be run
    for place, node in enumerate(nodes.all):
        assert set(nodes.upstream(node)) <= set(names[:place]), node.name


def test_a_cell_belongs_to_the_gpu_location_and_all_else_to_the_cpu_location():
    from steer_assets import cpu, gpu

    runs = {
        name: {a.key.path[-1] for a in location.defs.assets if a.is_executable}
        for name, location in (("cpu", cpu), ("gpu", gpu))
    }
    assert runs["gpu"] == {n.name for n in nodes_of(registry().bench("tales")).all if n.grid}
    shared = {n.name for n in nodes_of(registry().bench("tales")).all if not n.grid}
    # published numbers are of no bench
    assert runs["cpu"] == shared | {"claims"}
    assert cpu.defs.executor is gpu.defs.executor is dg.in_process_executor


def test_no_cell_is_downstream_of_another_cell():
    graph = definitions.defs.resolve_asset_graph()
    for name in (n.name for n in nodes_of(registry().bench("tales")).all if n.grid):
        node = graph.get(dg.AssetKey(["tales", name]))
        for parent in node.parent_keys:
            upstream = graph.get(parent)
            if upstream.partitions_def is None:
                continue
            mapping = graph.get_partition_mapping(node.key, parent)
            found = mapping.get_upstream_mapped_partitions_result_for_partitions(
                node.partitions_def.subset_with_partition_keys(["direct|embedded"]),
                node.partitions_def,
                upstream.partitions_def,
            )
            keys = set(found.partitions_subset.get_partition_keys())
            assert keys == {"direct|embedded"}, (name, parent)


def test_jobs_schedules_sensors_and_assets_say_what_they_are_for():
    everything = [*definitions.defs.jobs, *definitions.defs.schedules, *definitions.defs.sensors]
    assert {d.name for d in everything} == {
        "tales_cell", "tales_cell_with_controls", "tales_weekly", "tales_missing_cells", "follow_changes_everything",
        "alert_red_checks_everything", "alert_failures_everything",
    }  # fmt: skip
    assert all(d.description for d in everything)


def test_keys_are_method_then_model():
    bench = registry().bench("tales")
    cell = read_key(bench, "direct|embedded")
    assert (cell.method.name, cell.model.name, cell.key) == ("direct", "embedded", "direct|embedded")


def test_valid_cells_leave_out_what_does_not_fit():
    bench = registry().bench("tales")
    valid = {c.method.name for c in valid_cells(bench)}
    impossible = {c.method.name: c.why_impossible() for c in all_cells(bench) if c.method.name not in valid}
    assert {"copy", "rewrite", "direct", "direct-negative", "best-of-8", "closed-loop"} <= valid
    assert impossible["few-shot"] == (
        "few-shot needs a context of 2048 tokens, and embedded has 512: use a model with a longer context"
    )


def test_the_schedule_asks_for_one_run_a_valid_cell(tmp_path, monkeypatch):
    # whatever was run in this clone before
    monkeypatch.setenv("STEERWORKS_ROOT", str(tmp_path))
    bench = registry().bench("tales")
    schedule = weekly_cells(bench, cell_job(bench, list(nodes_of(registry().bench("tales")).all)))
    context = dg.build_schedule_context(scheduled_execution_time=__import__("datetime").datetime(2026, 1, 5))
    requests = schedule(context)
    assert [r.partition_key for r in requests] == [c.key for c in valid_cells(bench)]
    assert len({r.run_key for r in requests}) == len(requests)


def test_the_sensor_asks_for_the_valid_cells_that_have_no_page(tmp_path, monkeypatch):
    monkeypatch.setenv("STEERWORKS_ROOT", str(tmp_path))
    bench = registry().bench("tales")
    page = tmp_path / "tales/report/model=embedded/method=copy/part.parquet"
    page.parent.mkdir(parents=True)
    page.touch()
    requests = missing_cells(bench, cell_job(bench, list(nodes_of(registry().bench("tales")).all)))(
        dg.build_sensor_context()
    )
    assert [r.partition_key for r in requests] == [c.key for c in valid_cells(bench) if c.method.name != "copy"]


def test_column_schemas_carry_the_contract():
    from schemas import GoalValues

    schema = table_schema(GoalValues)
    assert [c.name for c in schema.columns] == ["text_id", "scorer_id", "value", "state"]
    assert all(c.description for c in schema.columns)
    assert schema.constraints.other == ["unique(text_id, scorer_id)"]


def test_an_unknown_executor_is_named(monkeypatch):
    monkeypatch.setenv("STEERWORKS_GPU_EXECUTOR", "cluster")
    with pytest.raises(ConfigError, match="'cluster': expected `local` or `ray`"):
        compute.gpu_executor()


def test_scores_follow_new_responses_and_not_unchanged_ones(workplace):
    workplace.materialize("group:small_shared")
    workplace.materialize("group:small_cells", "copy|embedded")
    defs = build_definitions(dg.in_process_executor, location="test", shared=False)
    first = dg.evaluate_automation_conditions(defs, workplace.instance)
    # the first update after switching on counts as a change, whatever it says
    workplace.materialize('key:"small/responses"', "copy|embedded")
    first = dg.evaluate_automation_conditions(defs, workplace.instance, cursor=first.cursor)
    # the same answers again: nothing to follow
    workplace.materialize('key:"small/responses"', "copy|embedded")
    second = dg.evaluate_automation_conditions(defs, workplace.instance, cursor=first.cursor)
    scores = dg.AssetKey(["small", "scores"])
    assert second.get_num_requested(scores) == 0
    # other answers: the scores of that cell follow
    part = {"kind": "prompt", "strategy": "rewrite"}
    workplace.configure(methods={"copy": {"control": True, "parts": [part]}})
    workplace.materialize('key:"small/responses"', "copy|embedded")
    third = dg.evaluate_automation_conditions(defs, workplace.instance, cursor=second.cursor)
    assert set(third.get_requested_partitions(scores)) == {"copy|embedded"}


def test_the_leaderboard_follows_the_cells_that_are_there_though_others_are_not(workplace):
    workplace.materialize("group:small_shared")
    workplace.materialize("group:small_cells", "copy|embedded")
    workplace.materialize("group:small_leaderboard")
    defs = build_definitions(dg.in_process_executor, location="test")
    first = dg.evaluate_automation_conditions(defs, workplace.instance)
    workplace.materialize("group:small_cells", "direct|embedded")
    second = dg.evaluate_automation_conditions(defs, workplace.instance, cursor=first.cursor)
    assert second.get_num_requested(dg.AssetKey(["small", "leaderboard"])) == 1


def test_the_gpu_location_launches_cells_and_the_cpu_location_does_not():
    from steer_assets import cpu, gpu

    assert {s.name for s in gpu.defs.schedules} == {"tales_weekly"}
    assert not list(cpu.defs.schedules or [])
