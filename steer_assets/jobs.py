"""Jobs, schedules and sensors of a bench: one cell a run, whoever asks."""

from __future__ import annotations

import dagster as dg

from schemas.specs import BenchSpec
from steer_assets.compute import gpu_tags
from steer_assets.io import table_url
from steer_assets.nodes import Node
from steer_assets.partitions import valid_cells
from steer_assets.settings import storage_root
from steer_core.tables.snapshot import table_exists


def _slug(bench: BenchSpec) -> str:
    return bench.name.replace("-", "_").replace(".", "_")


def cell_job(bench: BenchSpec, nodes: list[Node], *, with_controls: bool = False) -> dg.UnresolvedAssetJobDefinition:
    """Materializes one cell; what has not changed is skipped."""
    grid = [n for n in nodes if n.grid]
    config = {"ops": {f"{_slug(bench)}__{n.name}": {"config": {"with_controls": True}} for n in grid if n.controls}}
    name, said = f"{_slug(bench)}_cell", f"One cell of bench {bench.name}: pick a method and a model"
    if with_controls:
        name, said = (
            f"{name}_with_controls",
            f"{said}; controls that have no scores yet are made first, in the same run",
        )
    return dg.define_asset_job(
        name,
        selection=dg.AssetSelection.assets(*(dg.AssetKey([bench.name, n.name]) for n in grid)),
        description=f"{said}. What is up to date is skipped",
        config=config if with_controls else None,
        # a queue counts the accelerators that runs want by this
        tags=gpu_tags(),
    )


def weekly_cells(bench: BenchSpec, job: dg.UnresolvedAssetJobDefinition) -> dg.ScheduleDefinition:
    """One run a week for each valid cell; off until switched on."""

    @dg.schedule(
        job=job,
        cron_schedule="0 5 * * 1",
        name=f"{_slug(bench)}_weekly",
        execution_timezone="UTC",
        description=f"Mondays at 5: one run for each possible cell of bench {bench.name}, controls first. "
        "What is up to date is skipped",
    )
    def schedule(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest]:
        when = context.scheduled_execution_time.date().isoformat()
        return [dg.RunRequest(run_key=f"{when}:{c.key}", partition_key=c.key) for c in valid_cells(bench)]

    return schedule


def missing_cells(bench: BenchSpec, job: dg.UnresolvedAssetJobDefinition) -> dg.SensorDefinition:
    """One run for each valid cell that has no page; off until switched on."""

    @dg.sensor(
        job=job,
        name=f"{_slug(bench)}_missing_cells",
        minimum_interval_seconds=300,
        description=f"Launches the possible cells of bench {bench.name} that have no page yet, "
        "once for each form of the method",
    )
    def sensor(context: dg.SensorEvaluationContext) -> list[dg.RunRequest]:
        return [
            dg.RunRequest(run_key=f"{c.key}:{c.method.spec_hash}:{c.model.identity}", partition_key=c.key)
            for c in valid_cells(bench)
            if not table_exists(table_url(storage_root(), bench.name, "report", c.key))
        ]

    return sensor
