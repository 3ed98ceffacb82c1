"""Jobs and schedules: refresh every valid cell of a bench."""

from __future__ import annotations

import dagster as dg

from schemas.specs import BenchSpec
from steer_assets.partitions import valid_cells
from steer_assets.tables import TableSpec


def grid_selection(bench: BenchSpec, specs: list[TableSpec]) -> dg.AssetSelection:
    """The per-cell tables of a bench among these."""
    return dg.AssetSelection.assets(*(dg.AssetKey([bench.name, n]) for s in specs if s.grid for n in s.outputs))


def refresh_job(bench: BenchSpec, specs: list[TableSpec]) -> dg.UnresolvedAssetJobDefinition:
    """Materializes one cell, as far as this location runs it; what has not changed is skipped."""
    return dg.define_asset_job(
        f"refresh_{bench.name.replace('-', '_').replace('.', '_')}",
        selection=grid_selection(bench, specs),
        description=f"One cell of bench {bench.name}; unchanged tables are skipped",
    )


def refresh_schedule(bench: BenchSpec, job: dg.UnresolvedAssetJobDefinition) -> dg.ScheduleDefinition:
    """One run a week for each valid cell; off until switched on."""

    @dg.schedule(job=job, cron_schedule="0 5 * * 1", name=f"weekly_{job.name}", execution_timezone="UTC")
    def schedule(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest]:
        when = context.scheduled_execution_time.date().isoformat()
        return [dg.RunRequest(run_key=f"{when}:{c.key}", partition_key=c.key) for c in valid_cells(bench)]

    return schedule
