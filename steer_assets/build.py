"""Put the definitions of a code location together."""

from __future__ import annotations

import datetime

import dagster as dg

from schemas.operations import WatchSpec
from steer_assets.alerts import alert_sensors
from steer_assets.arriving import arrivals_sensor
from steer_assets.assets import nodes_of
from steer_assets.automation import follow_sensor
from steer_assets.jobs import cell_job, missing_cells, slug, weekly_cells
from steer_assets.nodes import build_asset
from steer_assets.parity import parity_asset
from steer_assets.settings import registry

#: Reports older than this are shown as overdue.
FRESH_FOR = datetime.timedelta(days=30)


def build_definitions(
    executor: dg.ExecutorDefinition, *, location: str, cells: bool = True, shared: bool = True
) -> dg.Definitions:
    """Definitions of a location that runs some of the nodes of every bench.

    Nodes of the other location are only named as dependencies: Dagster's graph over both locations joins them.

    Args:
        executor: how it runs them.
        location: its name, for the automation sensor.
        cells: run the cells: with them come the jobs, the schedule and the sensor that launch cells.
        shared: run what all cells share, the leaderboard, and parity with published numbers; with them come alerts.
    """
    jobs, schedules, sensors = [], [], [follow_sensor(location)]
    if shared:
        # one location looks at the runs of all
        sensors += alert_sensors(location)
    assets = [parity_asset()] if shared else []
    for bench in registry().benches.values():
        nodes = nodes_of(bench)
        here = [n for n in nodes.all if (cells if n.grid else shared)]
        assets += [build_asset(node, bench, nodes) for node in here]
        if cells:
            job = cell_job(bench, here)
            jobs += [job, cell_job(bench, here, with_controls=True)]
            schedules.append(weekly_cells(bench, job))
            sensors.append(missing_cells(bench, job))
            if bench.watch != WatchSpec():
                sensors.append(arrivals_sensor(bench, job, f"{slug(bench)}_arrivals"))
    definitions = dg.Definitions(assets=assets, jobs=jobs, schedules=schedules, sensors=sensors, executor=executor)
    return definitions.map_asset_specs(
        func=lambda spec: (
            dg.apply_freshness_policy(spec, dg.FreshnessPolicy.time_window(fail_window=FRESH_FOR))
            if spec.key.path[-1] == "steerability_report"
            else spec
        )
    )
