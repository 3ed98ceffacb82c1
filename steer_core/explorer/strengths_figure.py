"""A sweep drawn: effect and cost over the strengths, with intervals, and the strength that is looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import polars as pl

from steer_core.explorer.strengths import COSTS, EFFECTS, SHOWN, Arm, Strengths
from steer_core.reports.drawing import CELL, CONTROL, DOWN, INK, MUTED, Figure, Panel

Draw = Callable[[Any], None]


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
    alt = "Dots are means over items, bars 95 % intervals clustered by item; the vertical line is the strength shown"
    cost = next((m for m in COSTS if m in found.measures), None)
    if effect is not None and cost is not None and len(_both(steered, effect, cost)) > 1:
        title = f"{SHOWN[effect].capitalize()} against {SHOWN[cost]}"
        panels += (Panel(title, _against(found, steered, effect, cost, here), 4.2, 3.0),)
        alt += ". The last panel joins strengths in their order"
        if any(arm.role == "prompt" for arm in found.arms):
            alt += "; diamonds are what asking does and costs"
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
    note = "" if panels else "The sweep has no figure that could be drawn."
    return Figure("strengths", f"{found.behavior} over strengths", alt, panels, pl.DataFrame(rows, schema=schema), note)


def _draw(found: Strengths, arms: Sequence[Arm], measure: str, here: float | None) -> Draw:
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


def _both(arms: Sequence[Arm], effect: str, cost: str) -> list[tuple[Arm, float, float]]:
    """Arms with both figures, by strength: cost, then effect."""
    known = [
        (a, a.figures[cost][0], a.figures[effect][0])
        for a in sorted(arms, key=lambda a: a.strength or 0.0)
        if effect in a.figures and cost in a.figures
    ]
    return [(a, x, y) for a, x, y in known if x is not None and y is not None]


def _against(found: Strengths, steered: Sequence[Arm], effect: str, cost: str, here: float | None) -> Draw:
    def draw(axes: Any) -> None:
        points = _both(steered, effect, cost)
        axes.plot([x for _, x, _ in points], [y for _, _, y in points], color=CELL, linewidth=1.0, alpha=0.5)
        for arm, x, y in points:
            at = (arm.strength or 0.0) == here
            for low, high, flat in ((*arm.figures[effect][1:3], False), (*arm.figures[cost][1:3], True)):
                if low is not None and high is not None:
                    ends = ([low, high], [y, y]) if flat else ([x, x], [low, high])
                    axes.plot(*ends, color=CELL, linewidth=0.8, alpha=0.5)
            axes.plot([x], [y], "o", color=INK if at else CELL, markersize=7 if at else 4.5)
            axes.annotate(arm.label, (x, y), (5, 4), textcoords="offset points", fontsize=7, color=MUTED)
        asked = [a for a in found.arms if a.role == "prompt"]
        for arm, x, y in _both(asked, effect, cost):
            axes.plot([x], [y], "D", color=CONTROL, markerfacecolor="none", markersize=6)
            axes.annotate(arm.label, (x, y), (6, -9), textcoords="offset points", fontsize=7, color=MUTED)
        axes.set(xlabel=SHOWN[cost], ylabel=SHOWN[effect])
        axes.margins(0.14)

    return draw
