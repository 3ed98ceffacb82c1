"""What cells will ask of their models, before anything is asked: the tables of the node `plans`, made on the spot."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import polars as pl

from schemas.specs import BenchSpec
from steer_assets.measuring import seconds_per_token
from steer_assets.nodes import SHARED
from steer_assets.partitions import Cell
from steer_assets.preflight import check_bench
from steer_assets.settings import storage_root
from steer_assets.status import node_is_current
from steer_assets.steps import Done, run_step
from steer_assets.tables import Work

PLANS, FITTING = "plans", "vectors"


def plan_cells(bench: BenchSpec, cells: Sequence[Cell]) -> tuple[pl.DataFrame, dict[str, str]]:
    """Plan cells; what all cells share is brought up to date first, and no model writes a word.

    Returns:
        One row a cell and probe, and one for its sweep: requests, calls, prompt tokens, new tokens, seconds. And for
        cells that cannot be planned, why.

    Raises:
        ConfigError: every mistake in the configuration at once.
        SteerworksError: what the cells share, or a plan, cannot be made.
    """
    from steer_assets.assets import NODES

    check_bench(bench, cells)
    shared = Work(bench, storage_root(), logging.getLogger(__name__))
    for node in NODES.all:
        if node.group == SHARED:
            for spec in node.tables:
                run_step(spec, shared, NODES)
    named = {n.name: n for n in NODES.all}
    rows: list[dict[str, object]] = []
    unplanned = {}
    for cell in cells:
        work = shared.of(cell)
        if why := cell.why_impossible():
            unplanned[cell.key] = f"impossible, {why}"
            continue
        if not node_is_current(named[FITTING], work, NODES):
            unplanned[cell.key] = (
                "not planned: it is fitted first, which asks the model "
                f"(steerworks run {cell.method.name}; Ctrl-C keeps what was fitted)"
            )
            continue
        made = [run_step(spec, work, NODES) for spec in named[PLANS].tables]
        rows += _probe_rows(cell, made) + _sweep_rows(cell, made, work)
    return pl.DataFrame(rows, schema=_SCHEMA), unplanned


_SCHEMA = {
    "cell": pl.String,
    "of": pl.String,
    "requests": pl.Int64,
    "calls at most": pl.Int64,
    "prompt tokens": pl.Int64,
    "new tokens at most": pl.Int64,
    "seconds at most": pl.Float64,
}


def _probe_rows(cell: Cell, made: Sequence[Done]) -> list[dict[str, object]]:
    plans = made[0].frames["run_plans"]
    return [
        {
            "cell": cell.key,
            "of": f"probe {r['probe']}",
            "requests": r["n_requests"],
            "calls at most": r["max_calls"],
            "prompt tokens": r["prompt_tokens"],
            "new tokens at most": r["max_new_tokens"],
            "seconds at most": r["seconds"],
        }
        for r in plans.iter_rows(named=True)
    ]


def _sweep_rows(cell: Cell, made: Sequence[Done], work: Work) -> list[dict[str, object]]:
    arms = made[1].frames.get("sweep_arms")
    if arms is None or not arms.height:
        return []
    speed, tokens = seconds_per_token(work.journal), int(arms["max_new_tokens"].sum())
    return [
        {
            "cell": cell.key,
            "of": f"sweep of {arms.height} arms",
            "requests": None,
            "calls at most": int(arms["n_calls"].sum()),
            "prompt tokens": None,
            "new tokens at most": tokens,
            "seconds at most": None if speed is None else tokens * speed,
        }
    ]
