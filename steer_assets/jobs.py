"""Jobs, schedules and sensors of a bench: one cell a run, whoever asks."""

from __future__ import annotations

import dagster as dg

from schemas.specs import BenchSpec
from steer_assets.compute import gpu_tags
from steer_assets.io import table_url
from steer_assets.nodes import Node
from steer_assets.partitions import Cell, valid_cells
from steer_assets.settings import storage_root
from steer_assets.status import State, status_of
from steer_core.tables.snapshot import table_exists


def slug(bench: BenchSpec) -> str:
    """The name of a bench as names of jobs, schedules and sensors begin."""
    return bench.name.replace("-", "_").replace(".", "_")


def cell_job(bench: BenchSpec, nodes: list[Node], *, with_controls: bool = False) -> dg.UnresolvedAssetJobDefinition:
    """Materializes one cell; what has not changed is skipped."""
    grid = [n for n in nodes if n.grid]
    config = {"ops": {f"{slug(bench)}__{n.name}": {"config": {"with_controls": True}} for n in grid if n.controls}}
    name, said = f"{slug(bench)}_cell", f"One cell of bench {bench.name}: pick a method and a model"
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
    """One run for each valid cell that is not up to date, within the bench's budget; off until switched on."""
    limit = bench.weekly.max_new_tokens
    within = f", until they may write {limit:,} tokens: others wait for the next time" if limit else ""

    @dg.schedule(
        job=job,
        cron_schedule=bench.weekly.cron,
        name=f"{slug(bench)}_weekly",
        execution_timezone="UTC",
        description=f"At {bench.weekly.cron} (UTC): one run for each possible cell of bench {bench.name} that is not "
        f"up to date, controls first{within}",
    )
    def schedule(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
        when = context.scheduled_execution_time.date().isoformat()
        due, waiting = due_cells(bench, storage_root())
        if waiting:
            context.log.info(
                "%d cells wait for the next time, their tokens are beyond the budget of %s: %s",
                len(waiting), f"{limit:,}", ", ".join(c.key for c in waiting),
            )  # fmt: skip
        if not due:
            return dg.SkipReason("every cell is up to date")
        return [dg.RunRequest(run_key=f"{when}:{c.key}", partition_key=c.key) for c in due]

    return schedule


def due_cells(bench: BenchSpec, root: str) -> tuple[list[Cell], list[Cell]]:
    """Valid cells that are not up to date: those within the bench's budget, and those that wait.

    A cell counts with the tokens that it stands on; one that was never run, with those of one answer of full length to
    each request. The first that does not fit ends the list: a small cell does not overtake a control that others are
    held against. The first of all is never left waiting, or it would wait for ever.
    """
    from steer_assets.assets import nodes_of

    nodes, limit, spent = nodes_of(bench), bench.weekly.max_new_tokens, 0
    most = sum(p.n_texts * p.n_goals_per_text for p in bench.probes) * bench.decoding.max_new_tokens
    due: list[Cell] = []
    waiting: list[Cell] = []
    for cell in valid_cells(bench):
        status = status_of(cell, nodes, root)
        if status.state is State.CURRENT:
            continue
        spent += status.tokens or most
        (waiting if waiting or (due and limit is not None and spent > limit) else due).append(cell)
    return due, waiting


def missing_cells(bench: BenchSpec, job: dg.UnresolvedAssetJobDefinition) -> dg.SensorDefinition:
    """One run for each valid cell that has no page; off until switched on."""

    @dg.sensor(
        job=job,
        name=f"{slug(bench)}_missing_cells",
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
