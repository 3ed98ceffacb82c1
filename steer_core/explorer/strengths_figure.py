"""A sweep drawn: effect and cost over the strengths, with intervals, and the strength that is looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import polars as pl

from steer_core.explorer.strengths import COSTS, EFFECTS, SHOWN, Arm, Strengths
from steer_core.reports.drawing import CELL, CONTROL, DOWN, INK, MUTED, Figure, Panel


def draw_strengths(found: Strengths, looked_at: int | None) -> Figure:
    """One panel for the effect, one for each cost that the sweep has.

    Args:
        found: the sweep.
        looked_at: place among its arms.
    """
    effect = next((m for m in EFFECTS if m in found.measures), None)
    measures = [m for m in (effect, *COSTS) if m is not None and m in found.measures]
    steered = [a for a in found.arms if a.role in ("vector", "off")]
    here = found.arms[looked_at].strength or 0.0 if looked_at is not None else None
    panels = tuple(Panel(SHOWN[m], _draw(found, steered, m, here), 4.2, 3.0) for m in measures)
    rows = [
        {
            "strength": a.strength or 0.0,
            "measure": m,
            "mean": a.figures[m][0],
            "low": a.figures[m][1],
            "high": a.figures[m][2],
        }
        for a in steered
        for m in measures
        if m in a.figures
    ]
    schema = {"strength": pl.Float64, "measure": pl.String, "mean": pl.Float64, "low": pl.Float64, "high": pl.Float64}
    alt = "Dots are means over items, bars 95 % intervals clustered by item; the vertical line is the strength shown"
    note = "" if panels else "The sweep has no figure that could be drawn."
    return Figure("strengths", f"{found.behavior} over strengths", alt, panels, pl.DataFrame(rows, schema=schema), note)


def _draw(found: Strengths, arms: Sequence[Arm], measure: str, here: float | None) -> Callable[[Any], None]:
    def draw(axes: Any) -> None:
        colour = CELL if measure in EFFECTS else DOWN
        known = [
            (a.strength or 0.0, *a.figures[measure]) for a in arms if a.figures.get(measure, (None,))[0] is not None
        ]
        known.sort()
        axes.plot([k[0] for k in known], [k[1] for k in known], color=colour, linewidth=1.2, alpha=0.6)
        for at, mean, low, high in known:
            if low is not None and high is not None:
                axes.plot([at, at], [low, high], color=colour, linewidth=2.2, solid_capstyle="butt")
            axes.plot([at], [mean], "o", color=INK if at == here else colour, markersize=7 if at == here else 4.5)
        if here is not None:
            axes.axvline(here, color=CONTROL, linewidth=0.9, linestyle=(0, (2, 2)))
        for arm in found.arms:
            value = arm.figures.get(measure, (None,))[0] if arm.role == "prompt" else None
            if value is not None:
                axes.axhline(value, color=MUTED, linewidth=0.9)
                axes.text(
                    1.0,
                    value,
                    f" {arm.label}",
                    transform=axes.get_yaxis_transform(),
                    fontsize=7,
                    color=MUTED,
                    va="center",
                    ha="left",
                )
        axes.set(xlabel=f"strength ({found.unit.replace('_', ' ')})" if found.unit else "strength")
        axes.margins(y=0.12)

    return draw
