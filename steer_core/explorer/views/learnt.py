"""Vectors and adapters of a cell."""

from __future__ import annotations

from typing import Any

from steer_core.explorer.asking import Given, check, one
from steer_core.explorer.pages import Pages, report_link
from steer_core.explorer.vectors import learnt


def show(pages: Pages, given: Given) -> dict[str, Any]:
    """What a cell learnt."""
    cells = [c for c in pages.bench.cells("vectors") if pages.bench.columns("vectors", ["vector_id"], c).height]
    cells += [c for c in pages.bench.cells("adapters") if c not in cells]
    cell = one(given, "cell") or next(iter(cells), "")
    check("cell", [cell] if cell else [], cells)
    return {
        "cells": cells,
        "found": learnt(pages.bench, cell) if cell else None,
        "report": report_link(pages.bench.name, cell) if cell else "",
    }
