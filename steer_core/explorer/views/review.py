"""The review queue: answers that a judge doubts, or that were drawn, one at a time; a person has the last word."""

from __future__ import annotations

from typing import Any

from steer_core.explorer.asking import Given, check, one, whole
from steer_core.explorer.pages import Pages
from steer_core.explorer.sample import asked_words
from steer_core.reports.text import word_diff

#: Most answers that are drawn beside the doubtful ones.
MOST_SPOT = 1000


def show(pages: Pages, given: Given) -> dict[str, Any]:
    """The answer at a place of the queue (`at`: how many are skipped)."""
    reviewing = pages.reviewing
    assert reviewing is not None  # without it there is no such view
    cells = reviewing.cells()
    cell = one(given, "cell") or next(iter(cells), "")
    check("cell", [cell] if cell else [], cells)
    spot = min(max(whole(given, "spot", 0), 0), MOST_SPOT)
    shared = {"cells": cells, "cell": cell, "spot": spot, "by": one(given, "by") or reviewing.reviewer()}
    if not cell:
        return {**shared, "row": None, "left": 0, "total": 0}
    rows, total = reviewing.queue(cell, spot)
    if not rows.height:
        return {**shared, "row": None, "left": 0, "total": total}
    at = max(whole(given, "at", 0), 0) % rows.height
    row = rows.row(at, named=True)
    numbers = (pages.index.asked().ids == row["request_id"]).arg_true()
    return {
        **shared,
        "row": row,
        "why": reviewing.why(row),
        "asked": asked_words(pages.bench, pages.index, numbers.to_list())[0] if numbers.len() else "",
        "diff": word_diff(row["source"], row["answer"]),
        "at": at,
        "left": rows.height,
        "total": total,
    }
