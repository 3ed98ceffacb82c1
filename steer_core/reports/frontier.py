"""Effect against side effect over all methods of a bench, as a section of the leaderboard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from steer_core.reports.drawing import CELL, CONTROL, GOOD, MUTED, Figure, Panel
from steer_core.reports.numbers import listed, number, plural, span


@dataclass(frozen=True)
class FrontierSection:
    """One model on one probe.

    Attributes:
        anchor: of the page.
        title: probe and model.
        sentence: who is known to cost something, and who is not known to.
        cost: what the cost is of.
        figure: name of the plot; empty where no profile has a capability.
        rows: points, by error.
    """

    anchor: str
    title: str
    sentence: str
    cost: str
    figure: str
    rows: tuple[dict[str, Any], ...]


def frontier_sections(
    points: pl.DataFrame, controls: Collection[str], links: Mapping[tuple[str, str], str]
) -> tuple[tuple[FrontierSection, ...], tuple[Figure, ...]]:
    """Sections and plots.

    Args:
        points: rows of `schemas.Frontier`.
        controls: methods that are controls.
        links: (model, method) -> path of the cell's page.
    """
    sections, figures = [], []
    for place, ((probe, model), own) in enumerate(points.group_by("probe", "model", maintain_order=True), 1):
        cost = f"{own['metric'][0]} of {own['profile'][0]}".replace("_", " ") if own["profile"][0] else ""
        numbered = own.with_row_index("number", offset=1)
        drawn = numbered.filter(pl.col("error").is_not_null(), pl.col("cost").is_not_null())
        rows = numbered.to_dicts()
        name = f"frontier_{place}" if cost and drawn.height else ""
        if name:
            alt = "Each point is a setting: what it loses against its steering error, bars are 95 percent intervals"
            panel = Panel("", _points(drawn, controls, cost), 4.8, 4.2)
            title = f"Effect against side effect: {probe}, {model}"
            figures.append(Figure(name, title, alt, (panel,), drawn))
        sections.append(
            FrontierSection(
                f"frontier-{place}",
                f"{probe} \u00b7 {model}",
                _sentence(rows, cost),
                cost,
                name,
                tuple(
                    r | {"link": links.get((r["model"], r["method"])), "control": r["method"] in controls} for r in rows
                ),
            )
        )
    return tuple(sections), tuple(figures)


def _sentence(rows: list[dict[str, Any]], cost: str) -> str:
    """Only what intervals bear: of one method at a time, each at its own 95 %, corrected for how many there are."""
    if not cost:
        return "No profile of the bench measures a capability: what steering costs is counted in metrics that differ."
    steered = [r for r in rows if r["arm_id"] != "plain"]
    if not steered:
        return "No method was profiled under steering yet."
    known = [r for r in steered if r["cost"] is not None]
    old = {r["method"]: r["outdated"] for r in steered if r["outdated"]}
    often = Counter(r["method"] for r in rows if r["headline"])

    def who(row: Mapping[str, Any]) -> str:
        return f"{row['method']} at {row['label']}" if often[row["method"]] > 1 else str(row["method"])

    moved = [r for r in rows if r["n_different"] and r["headline"]]
    quiet = [r for r in rows if r["n_metrics"] and not r["n_different"] and r["headline"]]
    said = []
    if moved:
        named = [f"{who(r)} ({r['n_different']} of {r['n_metrics']})" for r in moved[:4]]
        more = f" and {len(moved) - 4} more" if len(moved) > 4 else ""
        said.append(f"Known to change the model apart from the request: {listed(named)}{more}.")
    if quiet:
        named = [who(r) for r in quiet[:4]]
        more = f" and {len(quiet) - 4} more" if len(quiet) > 4 else ""
        said.append(f"Not known to: {listed(named)}{more}.")
    if old:
        named = [f"{method} ({which})" for method, which in list(old.items())[:4]]
        more = f" and {len(old) - 4} more" if len(old) > 4 else ""
        said.append(
            "Profiles were edited since these were run, and count for nothing until they are run again: "
            f"{listed(named)}{more}."
        )
    if not known:
        said.append(f"What is lost of {cost} is not known of any: see the pages for what is missing.")
        return " ".join(said)
    worst = max(known, key=lambda r: r["cost"])
    ends = span(worst["cost_low"], worst["cost_high"], 3)
    said.append(
        f"The largest loss of {cost} among {plural(len(known), 'setting')} is {number(worst['cost'], 3)} {ends}, of "
        f"{worst['method']} at {worst['label']}; being the largest, it is likely to be overstated."
    )
    return " ".join(said)


def _points(rows: pl.DataFrame, controls: Collection[str], cost: str) -> Callable[[Any], None]:
    def draw(axes: Any) -> None:
        for row in rows.iter_rows(named=True):
            colour = CONTROL if row["method"] in controls else CELL
            x, y = row["error"], row["cost"]
            if row["error_low"] is not None:
                axes.plot([row["error_low"], row["error_high"]], [y, y], color=colour, linewidth=0.8, alpha=0.5)
            if row["cost_low"] is not None:
                axes.plot([x, x], [row["cost_low"], row["cost_high"]], color=colour, linewidth=0.8, alpha=0.5)
            filled = colour if row["headline"] else "none"
            axes.plot([x], [y], "o", color=colour, markerfacecolor=filled, markersize=6.5)
        for (x, y), numbers in _shared_labels(rows):
            axes.annotate(", ".join(map(str, numbers)), (x, y), (6, 5), textcoords="offset points", fontsize=8.5)
        best = rows.filter("best").sort("error")
        axes.step(best["error"], best["cost"], where="post", color=GOOD, linewidth=1.2, linestyle=(0, (4, 2)))
        axes.axhline(0.0, color=MUTED, linewidth=0.8)
        axes.set(xlabel="mean steering error (left is on target)", ylabel=f"loss of {cost}")
        axes.grid(axis="both")

    return draw


def _shared_labels(rows: pl.DataFrame) -> list[tuple[tuple[float, float], list[int]]]:
    """Where labels stand: points that all but coincide share one."""
    wide, high = (max(float(rows[c].max()) - float(rows[c].min()), 1e-9) for c in ("error", "cost"))  # type: ignore[arg-type]
    found: list[tuple[tuple[float, float], list[int]]] = []
    for row in rows.iter_rows(named=True):
        x, y = row["error"], row["cost"]
        near = [n for (a, b), n in found if abs(a - x) < 0.05 * wide and abs(b - y) < 0.06 * high]
        if near:
            near[0].append(row["number"])
        else:
            found.append(((x, y), [row["number"]]))
    return found
