"""One request as several cells answered it."""

from __future__ import annotations

from typing import Any

import polars as pl

from schemas.evaluation import HEADLINE
from steer_core.explorer.asking import Given, check, one, several, whole
from steer_core.explorer.compare import MOST
from steer_core.explorer.pages import Pages
from steer_core.explorer.sample import read_sample
from steer_core.reports.text import word_diff
from steer_core.tables.errors import ConfigError


def show(pages: Pages, given: Given) -> dict[str, Any]:
    """Answers of cells to one request, marked against the source or against the first of them."""
    cells, asked = several(given, "cell")[:MOST], pages.index.asked()
    check("cell", cells, pages.bench.cells())
    number, against = whole(given, "number", 0), one(given, "against") or "source"
    check("against", [against], ["source", "first"])
    if not 0 <= number < asked.ids.len():
        raise ConfigError(f"number={number}: there are {asked.ids.len()} requests, counted from 0")
    own = pages.index.samples().filter(pl.col("arm") == HEADLINE, pl.col("cell").is_in(cells))
    rows = {str(r["cell"]): r for r in own.filter(pl.col("number") == number).iter_rows(named=True)}
    found = [read_sample(pages.bench, pages.index, rows[c]) for c in cells if c in rows]
    if not found:
        raise ConfigError("none of these cells has answered this request")
    # others that one of them has answered: a pool for training has requests, too
    numbers = own["number"].unique().sort()
    place = int(numbers.search_sorted(number))
    texts = [pages.bench.columns("outcomes", ["text"], s.cell)["text"][int(rows[s.cell]["row"])] for s in found]
    return {
        "cells": cells,
        "number": number,
        "place": place,
        "total": numbers.len(),
        "before": numbers[place - 1] if place else None,
        "after": numbers[place + 1] if place + 1 < numbers.len() else None,
        "found": found,
        "against": against,
        # what differs between two rewrites is what one looks for
        "diffs": [s.diff for s in found] if against == "source" else [word_diff(texts[0], t) for t in texts],
        "missing": [c for c in cells if c not in rows],
    }
