"""Goal by goal: how far each ended from its targets, how far it drifted unasked, how often it left the space."""

from __future__ import annotations

import polars as pl

from steer_core.reports.inputs import CellTables
from steer_core.reports.numbers import Interval, interval

#: Per-goal measures of the summary that the table has with their intervals.
_MEASURES = ("error", "drift", "move_ratio", "concordance")
_SCHEMA = {
    "goal": pl.Utf8,
    "n_active": pl.Int64,
    "error": pl.Float64,
    "error_low": pl.Float64,
    "error_high": pl.Float64,
    "asked": pl.Float64,
    "n_inactive": pl.Int64,
    "drift": pl.Float64,
    "drift_low": pl.Float64,
    "drift_high": pl.Float64,
    "move_ratio": pl.Float64,
    "move_ratio_low": pl.Float64,
    "move_ratio_high": pl.Float64,
    "concordance": pl.Float64,
    "concordance_low": pl.Float64,
    "concordance_high": pl.Float64,
    "n_pairs": pl.Int64,
    "share_below": pl.Float64,
    "share_above": pl.Float64,
    "n_measured": pl.Int64,
}


def per_goal_table(tables: CellTables) -> pl.DataFrame:
    """One row a goal, in the order of the goal space; figures come from the summary, counts from the movements.

    `error`, `drift`, `move_ratio` and `concordance` (over `n_pairs`) are the summary's per-goal measures with their
    intervals; `asked` is the mean |z* - z0| where the goal was active: the error of doing nothing. `share_below` and
    `share_above` are the shares of measured outputs whose unclipped value lies outside the goal's bounds.
    """
    rows = []
    for goal in tables.axes:
        moved = tables.movements.filter(pl.col("goal") == goal)
        active = moved.filter(pl.col("z_star").is_not_null())
        beyond = moved["overshoot"].drop_nulls()
        found = {name: _of(tables.summary, name, goal) for name in _MEASURES}
        row: dict[str, object] = {
            "goal": goal,
            "n_active": found["error"].n,
            "n_inactive": found["drift"].n,
            "n_pairs": found["concordance"].n,
            "asked": (active["z_star"] - active["z0"]).abs().mean(),
            "n_measured": len(beyond),
            "share_below": (beyond < 0).mean() if len(beyond) else None,
            "share_above": (beyond > 0).mean() if len(beyond) else None,
        }
        for name, one in found.items():
            row |= {name: one.value, f"{name}_low": one.low, f"{name}_high": one.high}
        rows.append(row)
    return pl.DataFrame(rows, schema=_SCHEMA)


def _of(summary: pl.DataFrame, measure: str, goal: str) -> Interval:
    return interval(summary, measure, goal=goal) or Interval(None, None, None, 0, 0)
