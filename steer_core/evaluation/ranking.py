"""All cells side by side, ranked within one goal space and probe, never across."""

from __future__ import annotations

import polars as pl

from schemas.evaluation import Leaderboard
from steer_core.evaluation.summary import OVERALL
from steer_core.tables import SteerworksError

_CELL = ["goal_space_id", "probe", "model", "method"]

#: Column of the leaderboard -> (measure, reading, statistic, column) of the summary.
_FIGURES = {
    "error": ("error", "complete", "mean", "value"),
    "error_low": ("error", "complete", "mean", "low"),
    "error_high": ("error", "complete", "mean", "high"),
    "error_worst": ("error", "worst", "mean", "value"),
    "miscalibration": ("miscalibration", "complete", "median", "value"),
    "orthogonality": ("orthogonality", "complete", "median", "value"),
    "error_binned": ("error_binned", "complete", "median", "value"),
    "meaning_content": ("meaning_content", "complete", "mean", "value"),
    "failed": ("failed", "complete", "mean", "value"),
    "copied": ("copied", "complete", "mean", "value"),
    "n": ("error", "worst", "mean", "n"),
    "n_clusters": ("error", "worst", "mean", "n_clusters"),
}


def leaderboard(summaries: pl.DataFrame, costs: pl.DataFrame, comparisons: pl.DataFrame) -> pl.DataFrame:
    """Rank cells by their mean steering error with failures at their worst: refusing to answer cannot pay.

    Args:
        summaries: rows of `schemas.SteerabilitySummary` with columns `model` and `method`.
        costs: columns `model`, `method`, `probe`, `completion_tokens` (tokens written per request, all attempts).
        comparisons: rows of `schemas.Comparisons` with columns `model` and `method`; a cell that was not compared with
            `copy` has a null `vs_copy`.

    Returns:
        Rows of `schemas.Leaderboard`, by goal space, probe and rank; equal errors share a rank.

    Raises:
        SteerworksError: a cell has no cost or no worst-case error.
    """
    overall = summaries.filter(pl.col("goal") == OVERALL)
    board = overall.select(_CELL).unique(maintain_order=True)
    for column, (measure, reading, statistic, value) in _FIGURES.items():
        rows = overall.filter(measure=measure, reading=reading, statistic=statistic)
        board = board.join(rows.select(*_CELL, pl.col(value).alias(column)), on=_CELL, how="left")
    with_copy = comparisons.filter(control="copy", measure="error", reading="complete")
    vs_copy = with_copy.select(*_CELL, pl.col("relative").alias("vs_copy"))
    board = board.join(vs_copy, on=_CELL, how="left").join(
        costs.select("model", "method", "probe", pl.col("completion_tokens").cast(pl.Float64)),
        on=["model", "method", "probe"],
        how="left",
    )
    for column, remedy in (
        ("error_worst", "summarise the cell again: it has no request"),
        ("completion_tokens", "pass its cost, 0 where nothing was written"),
    ):
        lacking = board.filter(pl.col(column).is_null())
        if len(lacking):
            cell = lacking.row(0, named=True)
            raise SteerworksError(
                f"{len(lacking)} cells have no `{column}` (first: {cell['method']}|{cell['model']} on probe "
                f"{cell['probe']!r}): {remedy}"
            )
    rank = pl.col("error_worst").rank("min").over("goal_space_id", "probe").cast(pl.Int64).alias("rank")
    ranked = board.with_columns(rank).sort("goal_space_id", "probe", "rank", "model", "method")
    return ranked.select(list(Leaderboard.to_schema().columns))
