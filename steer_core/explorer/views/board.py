"""The leaderboard: cells of a probe, filtered and ordered, with the columns that one wants."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import polars as pl

from steer_core.explorer.asking import Given, check, one, several
from steer_core.explorer.pages import Pages, report_link
from steer_core.reports.drawing import RenderedFigure, render
from steer_core.reports.frontier import FrontierSection, frontier_sections
from steer_core.reports.page import Axis

#: Columns that may be chosen beside rank and cell: name -> (title, digits).
COLUMNS = {
    "error": ("error", 3),
    "vs_copy": ("against copy", 3),
    "vs_best": ("against best", 3),
    "miscalibration": ("miscalibration", 3),
    "orthogonality": ("orthogonality", 3),
    "error_complete": ("error, complete cases", 3),
    "error_binned": ("binned median", 3),
    "meaning_content": ("meaning kept", 2),
    "failed": ("failed", 3),
    "copied": ("copied", 3),
    "completion_tokens": ("tokens a request", 1),
    "n": ("requests", 0),
    "n_clusters": ("texts", 0),
}
#: Those that are shown where nobody chooses.
PLAIN = ("error", "vs_copy", "meaning_content", "failed", "completion_tokens", "n_clusters")
#: Those with an interval.
INTERVALS = ("error", "vs_copy", "vs_best")


def show(pages: Pages, given: Given) -> dict[str, Any]:
    """Cells of one probe."""
    rows = pages.bench.rows("leaderboard")
    probes = rows["probe"].unique(maintain_order=True).to_list()
    models = rows["model"].unique(maintain_order=True).to_list()
    probe = one(given, "probe") or next(iter(probes), "")
    chosen, wanted = several(given, "column") or list(PLAIN), several(given, "model")
    sort, order, method = one(given, "sort") or "rank", one(given, "order") or "asc", one(given, "method")
    check("probe", [probe] if probe else [], probes)
    check("column", chosen, COLUMNS)
    check("model", wanted, models)
    check("sort", [sort], ["rank", "method", "model", *COLUMNS])
    check("order", [order], ["asc", "desc"])
    all_ = rows.filter(pl.col("probe") == probe)
    own = all_.filter(pl.col("model").is_in(wanted)) if wanted else all_
    own = own.filter(pl.col("method").str.contains(method, literal=True)) if method else own
    by = list(dict.fromkeys([sort, "rank", "model", "method"]))
    own = own.sort(by, descending=[order == "desc" and name == sort for name in by], nulls_last=True)
    scales = {}
    for name in INTERVALS:
        ends = [v for c in (name, f"{name}_low", f"{name}_high") for v in all_[c].drop_nulls().to_list()]
        scales[name] = Axis(min([0.0, *ends]), max([1e-9, *ends]))
    return {
        "rows": list(own.iter_rows(named=True)),
        "total": all_.height,
        "probe": probe,
        "probes": probes,
        "models": models,
        "wanted": wanted,
        "method": method,
        "columns": COLUMNS,
        "chosen": [c for c in COLUMNS if c in chosen],
        "plain": list(PLAIN),
        "sort": sort,
        "order": order,
        "scales": scales,
        "intervals": INTERVALS,
        "controls": pages.bench.controls,
        "frontier": _frontier(pages, probe, models, wanted, method),
        "report": report_link,
        "page": f"/files/{quote(pages.bench.name)}/leaderboard_page/report.html",
    }


def _frontier(
    pages: Pages, probe: str, models: list[str], wanted: list[str], method: str
) -> list[tuple[FrontierSection, RenderedFigure | None]]:
    """Effect against side effect of the cells that are listed, a model each; none where nothing was profiled."""
    points = pages.bench.rows("frontier").filter(pl.col("probe") == probe, pl.col("model").is_in(wanted or models))
    points = points.filter(pl.col("method").str.contains(method, literal=True)) if method else points
    # what is known of some is no sentence on all: it is said where all are looked at
    if points.filter(pl.col("arm_id") != "plain").is_empty():
        return []
    links = {
        (m, name): report_link(pages.bench.name, f"{name}|{m}") for m, name in points.select("model", "method").rows()
    }
    sections, figures = frontier_sections(points, pages.bench.controls, links)
    drawn = {figure.name: render(figure) for figure in figures}
    return [(section, drawn.get(section.figure)) for section in sections]
