"""Strengths of a sweep, with what was written at each."""

from __future__ import annotations

from typing import Any

from steer_core.explorer.asking import Given, check, one, whole
from steer_core.explorer.pages import Pages
from steer_core.explorer.strengths import SHOWN, layers_of, strengths, swept_cells
from steer_core.explorer.strengths_figure import draw_strengths
from steer_core.reports.drawing import render


def show(pages: Pages, given: Given) -> dict[str, Any]:
    """One behavior of one cell: an item, the strength that the slider is at, its neighbours, and the curves."""
    cells = swept_cells(pages.bench)
    cell = one(given, "cell") or next(iter(cells), "")
    check("cell", [cell] if cell else [], cells)
    shared: dict[str, Any] = {"cells": cells, "titles": SHOWN, "layers_of": layers_of}
    if not cells:
        return {**shared, "found": None}
    behavior, setting = one(given, "behavior"), one(given, "setting")
    found = strengths(pages.bench, cell, behavior=behavior, setting=setting, item=whole(given, "item", 0))
    steered = [n for n, arm in enumerate(found.arms) if arm.role in ("vector", "off")]
    at = min(max(whole(given, "at", len(steered) - 1), 0), len(steered) - 1)
    off = next((arm for arm in found.arms if arm.role == "off"), None)
    return {
        **shared,
        "found": found,
        "at": at,
        "steered": [found.arms[n] for n in steered],
        "off": off,
        "asked": [arm for arm in found.arms if arm.role == "prompt"],
        "figure": render(draw_strengths(found, steered[at] if steered else None)),
    }
