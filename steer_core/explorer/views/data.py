"""Tables on storage: what is in them, and how to take them along."""

from __future__ import annotations

from typing import Any

from steer_core.explorer.asking import Given, check, one
from steer_core.explorer.pages import Pages
from steer_core.explorer.sample import snippet
from steer_core.explorer.tables import Entry, entries

#: Rows that are shown, and characters of a value.
ROWS, CHARACTERS = 5, 60


def show(pages: Pages, given: Given) -> dict[str, Any]:
    """All tables, or one with its columns and its first rows."""
    found, name = entries(pages.bench), one(given, "table")
    check("table", [name] if name else [], [e.name for e in found])
    entry = next((e for e in found if e.name == name), None)
    return {
        "found": found,
        "entry": entry,
        "head": _head(pages, entry, one(given, "cell")) if entry else None,
        "root": pages.bench.root,
    }


def _head(pages: Pages, entry: Entry, cell: str) -> dict[str, Any]:
    cells = [c for c, _ in entry.files.values() if c]
    check("cell", [cell] if cell else [], cells)
    cell = cell or next(iter(cells), "")
    rows = pages.bench.rows_at(entry.name, entry.contract, cell)
    shown = [
        {k: "–" if v is None else snippet(str(v), CHARACTERS) for k, v in row.items()}
        for row in rows.head(ROWS).iter_rows(named=True)
    ]
    return {"cell": cell, "cells": cells, "rows": shown, "height": rows.height}
