"""Arms on the probe: the error of a method at fixed strengths, checkpoints or seeds, beside its headline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl

from schemas.evaluation import HEADLINE
from steer_core.reports.drawing import CELL, CONTROL, MUTED, Figure, Panel
from steer_core.reports.inputs import CellTables, filled

_SCHEMA = {
    "arm_id": pl.String,
    "part": pl.String,
    "label": pl.String,
    "position": pl.Float64,
    "axis": pl.String,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
}


def arms_figure(tables: CellTables) -> Figure | None:
    """Mean error with failures at their worst, arm by arm; None where there is only the headline."""
    arms, summary = filled(tables.probe_arms), filled(tables.summary_of_arms)
    if arms is None or summary is None or arms.height < 2:
        return None
    figures = summary.filter(measure="error", goal="overall", reading="worst", statistic="mean")
    rows = (
        arms.join(figures.select("arm_id", "value", "low", "high"), on="arm_id", maintain_order="left")
        .select(list(_SCHEMA))
        .cast(_SCHEMA)  # type: ignore[arg-type]
    )
    placed = rows.filter(pl.col("position").is_not_null()).sort("position")
    headline = rows.filter(pl.col("arm_id") == HEADLINE)
    # settings of two parts, or on two axes, are no one curve
    groups = placed.partition_by("part", "axis", maintain_order=True)
    titles = [g["part"][0] if len(groups) > 1 else "" for g in groups]
    panels = tuple(Panel(title, _draw(group, headline), 5.2, 2.8) for title, group in zip(titles, groups, strict=True))
    alt = "Dots are arms with 95 percent intervals, the line is the method as it is used"
    note = "" if panels else "Nothing to draw: no arm has a place on an axis."
    return Figure("arms", "The same requests at fixed settings", alt, panels, rows, note)


def _draw(rows: pl.DataFrame, headline: pl.DataFrame) -> Callable[[Any], None]:
    def draw(axes: Any) -> None:
        low, high = rows["position"].to_numpy().min(), rows["position"].to_numpy().max()
        for row in rows.iter_rows(named=True):
            axes.plot([row["position"]] * 2, [row["low"], row["high"]], color=CELL, linewidth=1.6)
        axes.plot(rows["position"], rows["value"], "o-", color=CELL, markersize=4.5, linewidth=1)
        if headline.height and headline["value"][0] is not None:
            axes.axhline(headline["value"][0], color=CONTROL, linewidth=1.2, linestyle=(0, (4, 3)))
            place = (high, headline["value"][0])
            axes.annotate(
                "as it is used", place, (0, 4), textcoords="offset points", ha="right", fontsize=8, color=MUTED
            )
        pad = 0.06 * max(high - low, 1e-9)
        axes.set(xlim=(low - pad, high + pad), xlabel=rows["axis"][0], ylabel="mean steering error")
        axes.grid(axis="y")

    return draw
