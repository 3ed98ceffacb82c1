"""All cells side by side, ranked within one goal space and probe, never across.

1. One reading: failures at their worst, in the rank, the error, its interval and every difference. Refusing to answer
   cannot pay, and no figure of the table leaves a request out that another counts.
2. Order is a paired question: cells answer the same requests, so each is held against the best by its differences,
   request by request; that two intervals overlap says nothing.
3. Controls take part: a method behind `copy` is ranked behind it.
4. A cell stands with its headline arm; what other arms score is on its own page.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import polars as pl

from schemas.evaluation import HEADLINE, Leaderboard
from steer_core.evaluation.columns import to_array
from steer_core.evaluation.summary import OVERALL
from steer_core.statistics import PairedContrast, paired_contrast
from steer_core.tables import SteerworksError

_CELL = ["goal_space_id", "probe", "model", "method"]

#: Column of the leaderboard -> (measure, reading, statistic, column) of the summary.
_FIGURES = {
    "error": ("error", "worst", "mean", "value"),
    "error_low": ("error", "worst", "mean", "low"),
    "error_high": ("error", "worst", "mean", "high"),
    "miscalibration": ("miscalibration", "worst", "median", "value"),
    "orthogonality": ("orthogonality", "worst", "median", "value"),
    "error_complete": ("error", "complete", "mean", "value"),
    "error_binned": ("error_binned", "complete", "median", "value"),
    "meaning_content": ("meaning_content", "complete", "mean", "value"),
    "failed": ("failed", "complete", "mean", "value"),
    "copied": ("copied", "complete", "mean", "value"),
    "n": ("error", "worst", "mean", "n"),
    "n_clusters": ("error", "worst", "mean", "n_clusters"),
}


def for_the_board(steerability: pl.DataFrame) -> pl.DataFrame:
    """What a leaderboard needs of one cell's `schemas.Steerability`.

    Of all cells of a large bench the whole would not fit: words that come in every row, and requests that come in every
    cell, take four bytes.
    """
    words = pl.col("arm_id", "goal_space_id", "probe", "request_id", "text_id").cast(pl.Categorical)
    return steerability.filter(pl.col("arm_id") == HEADLINE).select(words, "error_worst")


def leaderboard(
    summaries: pl.DataFrame, costs: pl.DataFrame, steerability: pl.DataFrame, controls: Collection[str]
) -> pl.DataFrame:
    """Rank cells by their mean steering error with failures at their worst.

    Args:
        summaries: rows of `schemas.SteerabilitySummary` with columns `model` and `method`.
        costs: columns `model`, `method`, `probe`, `completion_tokens` (tokens written per request, all attempts;
            null: not known).
        steerability: rows of `schemas.Steerability` of the same cells, or what `for_the_board` keeps of them, with
            columns `model` and `method`; without those of `copy` on its model a cell has a null `vs_copy`.
        controls: methods that are controls: ranked, and never the `best` that others are held against.

    Returns:
        Rows of `schemas.Leaderboard`, by goal space, probe and rank; equal errors share a rank.

    Raises:
        SteerworksError: a cell has no cost or no worst-case error.
    """
    overall = summaries.filter(pl.col("goal") == OVERALL, pl.col("arm_id") == HEADLINE)
    steerability = steerability.filter(pl.col("arm_id") == HEADLINE)
    board = overall.select(_CELL).unique(maintain_order=True)
    for column, (measure, reading, statistic, value) in _FIGURES.items():
        rows = overall.filter(measure=measure, reading=reading, statistic=statistic)
        board = board.join(rows.select(*_CELL, pl.col(value).alias(column)), on=_CELL, how="left")
    board = board.join(
        costs.select("model", "method", "probe", pl.col("completion_tokens").cast(pl.Float64)),
        on=["model", "method", "probe"],
        how="left",
    )
    costed = board.select("model", "method", "probe").join(costs, on=["model", "method", "probe"], how="anti")
    for column, remedy, lacking in (
        ("error", "summarise the cell again: it has no request", board.filter(pl.col("error").is_null())),
        ("completion_tokens", "pass its cost: 0 where nothing was written, null where that is not known", costed),
    ):
        if len(lacking):
            cell = lacking.row(0, named=True)
            raise SteerworksError(
                f"{len(lacking)} cells have no `{column}` (first: {cell['method']}|{cell['model']} on probe "
                f"{cell['probe']!r}): {remedy}"
            )
    rank = pl.col("error").rank("min").over("goal_space_id", "probe").cast(pl.Int64).alias("rank")
    ranked = board.with_columns(rank).sort("goal_space_id", "probe", "rank", "model", "method")
    compared = pl.DataFrame(list(_compared(ranked, steerability, controls)), schema_overrides=_DIFFERENCES)
    return ranked.hstack(compared).select(Leaderboard.names())


_DIFFERENCES = {
    "best": pl.String,
    **{f"vs_{other}{end}": pl.Float64 for other in ("copy", "best") for end in ("", "_low", "_high")},
}


def _compared(
    ranked: pl.DataFrame, steerability: pl.DataFrame, controls: Collection[str]
) -> Iterator[Mapping[str, Any]]:
    """Each cell against the copy of its model and the best cell that is no control, in the order of `ranked`."""
    errors = {
        tuple(map(str, cell)): rows.select("request_id", "text_id", "error_worst")
        for cell, rows in steerability.group_by(_CELL, maintain_order=True)
    }
    best: dict[tuple[str, str], tuple[str, str]] = {}
    for space, probe, model, method in ranked.select(_CELL).iter_rows():
        if method not in controls:
            best.setdefault((space, probe), (model, method))
    for space, probe, model, method in ranked.select(_CELL).iter_rows():
        own = errors.get((space, probe, model, method))
        first = best.get((space, probe))
        to_copy = None if method == "copy" else _paired(own, errors.get((space, probe, model, "copy")))
        row: dict[str, Any] = {"best": f"{first[1]}|{first[0]}" if first else ""}
        base = to_copy.control_value if to_copy else None
        for name, value in (("", "difference"), ("_low", "low"), ("_high", "high")):
            found = getattr(to_copy, value) if to_copy else None
            row[f"vs_copy{name}"] = found / base if found is not None and base else None
        to_best = _paired(own, errors.get((space, probe, *first))) if first else None
        row |= {
            "vs_best": to_best.difference if to_best else None,
            "vs_best_low": to_best.low if to_best else None,
            "vs_best_high": to_best.high if to_best else None,
        }
        yield row


def _paired(own: pl.DataFrame | None, other: pl.DataFrame | None) -> PairedContrast | None:
    if own is None or other is None:
        return None
    paired = own.join(other.select("request_id", other="error_worst"), on="request_id", maintain_order="left")
    return paired_contrast(
        to_array(paired["error_worst"]), to_array(paired["other"]), paired["text_id"].cast(pl.String).to_numpy()
    )
