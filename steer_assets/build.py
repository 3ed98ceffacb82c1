"""Put the definitions of a code location together."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

import dagster as dg

from steer_assets.assets import ALL
from steer_assets.jobs import refresh_job, refresh_schedule
from steer_assets.resources import resources
from steer_assets.settings import registry
from steer_assets.tables import TableSpec, build_asset

#: Reports older than this are shown as overdue.
FRESH_FOR = datetime.timedelta(days=30)


def build_definitions(here: Sequence[TableSpec], executor: dg.ExecutorDefinition, *, jobs: bool) -> dg.Definitions:
    """Definitions of a location that runs some of the tables of every bench.

    Tables of the other location stand in as specs, so that the graph is whole in both.

    Args:
        here: tables that this location runs.
        executor: how it runs them.
        jobs: also define the refresh jobs and schedules.
    """
    assets: list[dg.AssetsDefinition | dg.AssetSpec] = []
    definitions_jobs, schedules = [], []
    for bench in registry().benches.values():
        for spec in ALL:
            asset = build_asset(spec, bench)
            assets += [asset] if spec in here else list(asset.specs)
        if jobs:
            job = refresh_job(bench, list(here))
            definitions_jobs.append(job)
            schedules.append(refresh_schedule(bench, job))
    definitions = dg.Definitions(
        assets=assets, jobs=definitions_jobs, schedules=schedules, resources=resources(), executor=executor
    )
    return definitions.map_asset_specs(
        func=lambda spec: (
            dg.apply_freshness_policy(spec, dg.FreshnessPolicy.time_window(fail_window=FRESH_FOR))
            if spec.key.path[-1] == "report"
            else spec
        )
    )
