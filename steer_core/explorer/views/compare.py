"""Cells beside each other on the same requests."""

from __future__ import annotations

from typing import Any

from steer_core.explorer.asking import Given, check, one, several, whole
from steer_core.explorer.compare import MEASURES, compare
from steer_core.explorer.index import COSTS, FIGURES
from steer_core.explorer.pages import Pages
from steer_core.explorer.sample import asked_words, snippet
from steer_core.reports.page import Axis

#: Requests a page.
PER = 25


def show(pages: Pages, given: Given) -> dict[str, Any]:
    """Two to six cells: paired differences, and requests in the order of the difference."""
    there, probes = pages.bench.cells(), pages.probes()
    probe, measure = one(given, "probe"), one(given, "measure") or "error_worst"
    winner = one(given, "winner")
    check("probe", [probe] if probe else [], probes)
    shared: dict[str, Any] = {"there": there, "probes": probes, "measures": MEASURES, "titles": {**FIGURES, **COSTS}}
    if len(there) < 2:
        return {**shared, "found": None}
    found = compare(pages.index, several(given, "cell") or there[:2], probe=probe, measure=measure, winner=winner)
    last = max(1, -(-found.rows.height // PER))
    page = min(max(1, whole(given, "page", 1)), last)
    shown = found.rows.slice((page - 1) * PER, PER)
    words = asked_words(pages.bench, pages.index, shown["number"].to_list())
    sources = pages.bench.columns("requests", ["text"])["text"]
    rows = [
        {**r, "asked": w, "source_text": snippet(str(sources[r["number"]]), 110)}
        for r, w in zip(shown.iter_rows(named=True), words, strict=True)
    ]
    ends = [v for c in found.contrasts for v in (c.low, c.high, c.difference) if v is not None]
    reach = max([1e-9, *map(abs, ends)])
    return {
        **shared,
        "found": found,
        "rows": rows,
        "probe": probe,
        "winner": found.winner,
        "page": page,
        "last": last,
        "axis": Axis(-reach, reach),
    }
