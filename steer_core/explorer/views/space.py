"""Goal space: two goals, asked beside got."""

from __future__ import annotations

from typing import Any

from steer_core.explorer.asking import Given, one
from steer_core.explorer.pages import Pages
from steer_core.explorer.space import flow
from steer_core.explorer.space_figure import draw_flow, moving
from steer_core.reports.drawing import render
from steer_core.tables.errors import ConfigError


def show(pages: Pages, given: Given) -> dict[str, Any]:
    """Where the samples of a state were asked to go on two goals, and where they went."""
    state, axes = pages.state(given), pages.bench.axes
    if len(axes) < 2:
        raise ConfigError("this goal space has one goal: there are no two to draw against each other")
    x = one(given, "x") or axes[0]
    y = one(given, "y") or next(a for a in axes if a != x)
    found = flow(pages.index, pages.query, state, x, y)
    return {
        "state": state,
        "choices": pages.choices(),
        "found": found,
        "figure": render(draw_flow(found)),
        "axes": axes,
        "moving": moving(found) if one(given, "moving") else (),
    }
