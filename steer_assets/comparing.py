"""Two cells' answers to the same requests, put to a judge two at a time."""

from __future__ import annotations

from typing import Any

import polars as pl

from schemas import GoalSpaceTable, Outcomes, RequestGoals, Requests
from schemas.specs import ModelSpec
from steer_assets.assets.validation import compared, with_source
from steer_assets.compute import device_lease, device_of, let_go
from steer_assets.io import read_published, table_url
from steer_assets.partitions import Cell
from steer_assets.settings import storage_root
from steer_core.tables.errors import SteerworksError
from steer_core.tables.snapshot import table_exists

#: Columns that a person reads.
COLUMNS = ("goal", "tau", "same_side", "toward", "toward_low", "toward_high", "n", "left_out")


def by_judge(one: Cell, other: Cell, judge: ModelSpec) -> pl.DataFrame:
    """Goal by goal: does the judge order the two answers as the goal does, and whose go further as asked?

    Raises:
        SteerworksError: a cell has no answers, or they answered different requests.
    """
    bench = one.bench
    outcomes = [_table(cell, "outcomes", Outcomes) for cell in (one, other)]
    if set(outcomes[0]["request_id"]) != set(outcomes[1]["request_id"]):
        raise SteerworksError(f"{one.key} and {other.key} answered different requests: run both again")
    requests, asked, space = (
        read_published(table_url(storage_root(), bench.name, name, None), contract)
        for name, contract in (("requests", Requests), ("request_goals", RequestGoals), ("goal_space", GoalSpaceTable))
    )
    try:
        with device_lease(device_of(judge)):
            mine = with_source(bench, requests, outcomes[0])
            found = compared(bench, judge, mine, other.key, outcomes[1], asked, space)
    finally:
        let_go()
    return found.select(COLUMNS)


def _table(cell: Cell, name: str, contract: Any) -> pl.DataFrame:
    url = table_url(storage_root(), cell.bench.name, name, cell.key)
    if not table_exists(url):
        raise SteerworksError(f"{cell.key} has no answers yet: steerworks run {cell.method.name}")
    return read_published(url, contract)
