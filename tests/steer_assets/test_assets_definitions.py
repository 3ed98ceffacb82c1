"""The graph as Dagster sees it: loads without torch, keys, metadata, schedules, both locations."""

import subprocess
import sys

import dagster as dg
import pytest

from steer_assets import compute, definitions
from steer_assets.assets import ALL, CPU, GPU
from steer_assets.contracts import table_schema
from steer_assets.jobs import refresh_job, refresh_schedule
from steer_assets.partitions import all_cells, read_key, valid_cells
from steer_assets.settings import registry
from steer_core.tables.errors import ConfigError


def test_loading_the_definitions_imports_no_torch():
    code = (
        "import steer_assets.definitions, steer_assets.cpu, steer_assets.gpu, sys;"
        "heavy = {'torch', 'transformers', 'datasets', 'matplotlib', 'sklearn'} & set(sys.modules);"
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
            "columns": [c.name for c in s.metadata["dagster/column_schema"].columns],
        }
        for s in specs
    }
    assert graph == snapshot


def test_every_asset_is_described():
    for spec in definitions.defs.resolve_all_asset_specs():
        assert spec.description, spec.key
        assert spec.group_name != "default", spec.key
        assert spec.code_version, spec.key


def test_each_location_has_its_own_tables_and_sees_the_others():
    from steer_assets import cpu, gpu

    assert {s.name for s in CPU} | {s.name for s in GPU} == {s.name for s in ALL}
    whole = {s.key for s in definitions.defs.resolve_all_asset_specs()}
    for location in (cpu.defs, gpu.defs):
        assert {s.key for s in location.resolve_all_asset_specs()} == whole
    runs = {k for a in gpu.defs.assets if isinstance(a, dg.AssetsDefinition) and a.is_executable for k in a.keys}
    assert {k.path[-1] for k in runs} == {n for s in GPU for n in s.outputs}


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


def test_the_schedule_asks_for_one_run_a_valid_cell():
    bench = registry().bench("tales")
    job = refresh_job(bench, ALL)
    schedule = refresh_schedule(bench, job)
    context = dg.build_schedule_context(scheduled_execution_time=__import__("datetime").datetime(2026, 1, 5))
    requests = schedule(context)
    assert [r.partition_key for r in requests] == [c.key for c in valid_cells(bench)]
    assert len({r.run_key for r in requests}) == len(requests)


def test_column_schemas_carry_the_contract():
    from schemas import GoalValues

    schema = table_schema(GoalValues)
    assert [c.name for c in schema.columns] == ["text_id", "scorer_id", "value", "state"]
    assert all(c.description for c in schema.columns)
    assert schema.constraints.other == ["unique(text_id, scorer_id)"]


def test_an_unknown_executor_is_named(monkeypatch):
    monkeypatch.setenv("STEERWORKS_GPU_EXECUTOR", "cluster")
    with pytest.raises(ConfigError, match="'cluster': expected `local`"):
        compute.gpu_executor()


def test_a_device_is_held_by_one_run_at_a_time(tmp_path, monkeypatch):
    import filelock

    monkeypatch.setattr(compute.tempfile, "gettempdir", lambda: str(tmp_path))
    with compute.device_lease("cuda:0"):
        (lock,) = tmp_path.iterdir()
        with pytest.raises(filelock.Timeout):
            filelock.FileLock(lock).acquire(timeout=0)
    filelock.FileLock(lock).acquire(timeout=0)


def test_scores_follow_new_responses_and_not_unchanged_ones(workplace):
    from steer_assets.assets import CPU as here
    from steer_assets.build import build_definitions

    workplace.materialize("group:corpus or group:probes or group:contrasts")
    workplace.materialize(
        'group:vectors or group:responses or group:evaluation or group:behaviors or key:"small/report"', "copy|embedded"
    )
    defs = build_definitions(here, dg.in_process_executor, jobs=False)
    first = dg.evaluate_automation_conditions(defs, workplace.instance)
    # the first update after switching on counts as a change, whatever it says
    workplace.materialize("group:responses", "copy|embedded")
    first = dg.evaluate_automation_conditions(defs, workplace.instance, cursor=first.cursor)
    # the same answers again: nothing to follow
    workplace.materialize("group:responses", "copy|embedded")
    second = dg.evaluate_automation_conditions(defs, workplace.instance, cursor=first.cursor)
    values = dg.AssetKey(["small", "response_goal_values"])
    assert second.get_num_requested(values) == 0
    # other answers: the values of that cell follow
    part = {"kind": "prompt", "strategy": "rewrite"}
    workplace.configure(methods={"copy": {"control": True, "parts": [part]}})
    workplace.materialize("group:responses", "copy|embedded")
    third = dg.evaluate_automation_conditions(defs, workplace.instance, cursor=second.cursor)
    assert set(third.get_requested_partitions(values)) == {"copy|embedded"}


def test_the_gpu_location_has_the_schedule():
    from steer_assets import cpu, gpu

    assert {s.name for s in gpu.defs.schedules} == {"weekly_refresh_tales"}
    assert not list(cpu.defs.schedules or [])
