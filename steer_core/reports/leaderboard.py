"""The leaderboard page: all cells of a bench, one section a goal space and probe, never mixed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

import polars as pl

from steer_core.reports.behavior_ranking import BehaviorSection, behavior_sections
from steer_core.reports.beside import pair_sections
from steer_core.reports.drawing import CELL, CONTROL, INK, MUTED, Figure, Panel, RenderedFigure, interval_line, render
from steer_core.reports.files import ReportFiles, bundle
from steer_core.reports.frontier import FrontierSection, frontier_sections
from steer_core.reports.inputs import CONTROL_CELLS
from steer_core.reports.numbers import number, percent, plural, span
from steer_core.reports.page import Axis, page
from steer_core.reports.which_way import which_ways


def build_leaderboard(
    leaderboard: pl.DataFrame,
    *,
    bench: str,
    cell_reports: Mapping[tuple[str, str], str] | None = None,
    controls: Collection[str] = CONTROL_CELLS,
    versions: Mapping[str, str] | None = None,
    behaviors: pl.DataFrame | None = None,
    frontier: pl.DataFrame | None = None,
    pairs: pl.DataFrame | None = None,
) -> ReportFiles:
    """Builds the page that ranks cells, with a section for every (goal space, probe).

    Args:
        leaderboard: rows of `schemas.Leaderboard`.
        bench: bench slug.
        cell_reports: (model, method) -> path of the cell's page, relative to the leaderboard's folder.
        controls: methods that are controls: shown, marked, and never called the best.
        versions: what made the table, for the footer.
        behaviors: rows of `schemas.SweepFindings` of all cells with the columns `model` and `method` added; None or
            empty leaves the section out.
        frontier: rows of `schemas.Frontier`; None or empty leaves the section out.
        pairs: rows of `schemas.ProfileContrasts`, cells of a model beside each other; None leaves the section out.

    Raises:
        ValueError: the table is empty, or a path of `cell_reports` is not relative.
    """
    if leaderboard.is_empty():
        raise ValueError(f"leaderboard of bench {bench!r} has no row: materialize at least one cell's summary first")
    links = {cell: _relative(path, cell) for cell, path in (cell_reports or {}).items()}
    keys = leaderboard.select("goal_space_id", "probe").unique().sort("goal_space_id", "probe").rows()
    sections: list[dict[str, Any]] = []
    figures: dict[str, RenderedFigure] = {}
    for place, (space, probe) in enumerate(keys, 1):
        here = (pl.col("goal_space_id") == space) & (pl.col("probe") == probe)
        rows = leaderboard.filter(here).sort("rank", "model", "method")
        drawn = [render(figure) for figure in (_ranking(rows, place, controls), _trade_off(rows, place, controls))]
        figures |= {figure.name: figure for figure in drawn}
        sections.append(
            {
                "space": space,
                "probe": probe,
                "anchor": f"section-{place}",
                "sentence": _sentence(rows, controls),
                "figures": [figure.name for figure in drawn],
                "axis": Axis(0.0, 1.05 * _largest(rows)),
                "copy_error": _copy_error(rows),
                "n_texts": rows["n_clusters"].max(),
                "n_requests": rows["n"].max(),
                "rows": [
                    row
                    | {
                        "link": links.get((row["model"], row["method"])),
                        "control": row["method"] in controls,
                        "of_copy": None if row["vs_copy"] is None else 1 + row["vs_copy"],
                    }
                    for row in rows.iter_rows(named=True)
                ],
            }
        )
    swept: tuple[BehaviorSection, ...] = ()
    if behaviors is not None and behaviors.height:
        swept, of_behaviors = behavior_sections(behaviors, controls, links)
        figures |= {figure.name: render(figure) for figure in of_behaviors}
    ways = () if behaviors is None or not behaviors.height else which_ways(behaviors, controls, links)
    costs: tuple[FrontierSection, ...] = ()
    if frontier is not None and frontier.height:
        costs, of_costs = frontier_sections(frontier, controls, links)
        figures |= {figure.name: render(figure) for figure in of_costs}
    beside_each_other, of_pairs = pair_sections(frontier, pairs)
    figures |= {figure.name: render(figure) for figure in of_pairs}
    provenance = [("bench", bench), ("cells", f"{leaderboard.select('model', 'method').n_unique():,}")]
    provenance += sorted((versions or {}).items())
    html = page(
        "leaderboard.html.jinja",
        figures,
        bench=bench,
        sections=sections,
        behaviors=swept,
        ways=ways,
        costs=costs,
        pairs=beside_each_other,
        provenance=provenance,
    )
    best = leaderboard.filter(~pl.col("method").is_in(list(controls))).sort("rank")
    return bundle(
        html,
        f"Leaderboard of {bench}",
        list(figures.values()),
        {},
        _preview(sections, swept),
        {"cells": float(leaderboard.height)} | ({"best_error": best["error"][0]} if best.height else {}),
    )


def _relative(path: str, cell: tuple[str, str]) -> str:
    parts = urlsplit(path)
    if parts.scheme or parts.netloc or path.startswith("/"):
        raise ValueError(f"report of cell {cell[1]}|{cell[0]}: {path!r} is not a relative path")
    # a literal ? or # in a folder name would end the path
    return quote(path, safe="/=.-_~")


def _largest(rows: pl.DataFrame) -> float:
    ends: list[float] = [value for name in ("error", "error_high") for value in rows[name].drop_nulls()]
    return max([0.1, *ends])


def _copy_error(rows: pl.DataFrame) -> float | None:
    copies = rows.filter(pl.col("method") == "copy")["error"].drop_nulls()
    return float(copies.to_numpy()[0]) if len(copies) else None


def _sentence(rows: pl.DataFrame, controls: Collection[str]) -> str:
    """Whether the best method beats doing nothing, which others can be told apart from it, and who loses."""
    methods = rows.filter(~pl.col("method").is_in(list(controls))).sort("rank", "model", "method")
    if methods.is_empty():
        return "Only controls so far: there is no method to rank."
    best = methods.row(0, named=True)
    if best["failed"] == 1.0:
        return (
            f"Nothing could be ranked: no answer of {_names(methods.to_dicts())} could be measured; every error below "
            "is the worst there is."
        )
    copy_error = _copy_error(rows.filter(pl.col("model") == best["model"]))
    said = [_against_nothing(best, copy_error)]
    others = [row for row in methods.iter_rows(named=True) if _key(row) != _key(best)]
    unknown = [row for row in others if row["vs_best_low"] is None]
    open_order = [row for row in others if row["vs_best_low"] is not None and row["vs_best_low"] <= 0]
    if open_order:
        said.append(
            f"{_names(open_order)} cannot be told apart from it, request by request: the order among them is open."
        )
    if unknown:
        said.append(f"{_names(unknown)}: too few texts to say whether the order holds.")
    lost = [row for row in others if row["vs_copy_low"] is not None and row["vs_copy_low"] > 0]
    even = [
        row
        for row in others
        if row["vs_copy_low"] is not None and row["vs_copy_low"] <= 0 <= row["vs_copy_high"] and copy_error
    ]
    if lost:
        said.append(f"{_names(lost)} {_verb(lost, 'loses', 'lose')} to returning the source.")
    if even:
        said.append(f"{_names(even)} cannot be told apart from returning the source.")
    failing = methods.filter(pl.col("failed") > 0).height
    if failing:
        said.append(f"Failed answers of {plural(failing, 'cell')} count at their worst.")
    return " ".join(said)


def _against_nothing(best: Mapping[str, Any], copy_error: float | None) -> str:
    who = f"{best['method']} on {best['model']}"
    error = f"{number(best['error'], 3)} {span(best['error_low'], best['error_high'], 3)}"
    if copy_error is None:
        return (
            f"{who} comes first with an error of {error}. The control copy is missing: materialize it, or nobody knows "
            "what doing nothing costs."
        )
    if copy_error == 0.0:
        if best["error"] == 0.0:
            return f"Nothing was asked, and {who} changes nothing."
        return (
            f"Nothing was asked, and doing nothing is exactly right: the best method, {who}, loses to it, ending "
            f"{error} away."
        )
    if best["vs_copy_low"] is None:
        return f"{who} comes first with an error of {error}; too few texts to hold it against doing nothing."
    share = percent(1 + best["vs_copy"])
    ends = f"[{number(100 * (1 + best['vs_copy_low']), 0)} to {number(100 * (1 + best['vs_copy_high']), 0)}]"
    if best["vs_copy_high"] < 0:
        return f"{who} leads with an error of {error}, {share} {ends} of doing nothing."
    if best["vs_copy_low"] > 0:
        return f"The best method, {who}, loses to doing nothing: it ends at {share} {ends} of that error."
    return (
        f"The best method, {who}, cannot be told apart from doing nothing: it ends at {share} {ends} of that error, an "
        "interval that includes 100\u00a0%."
    )


def _key(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["model"], row["method"]


def _names(rows: Sequence[Mapping[str, Any]]) -> str:
    """Up to three cells by name, then how many more."""
    named = [f"{row['method']} on {row['model']}" for row in rows[:3]]
    if len(rows) > 3:
        named.append(f"{len(rows) - 3} more")
    return named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}"


def _verb(rows: Sequence[Mapping[str, Any]], one: str, many: str) -> str:
    return one if len(rows) == 1 else many


def _ranking(rows: pl.DataFrame, place: int, controls: Collection[str]) -> Figure:
    table = rows.select(
        "goal_space_id", "probe", "rank", "model", "method", "error", "error_low", "error_high", "error_complete"
    )
    copy = _copy_error(rows)

    def draw(axes: Any) -> None:
        for y, row in enumerate(table.iter_rows(named=True)):
            colour = CONTROL if row["method"] in controls else CELL
            interval_line(axes, y, row["error"], row["error_low"], row["error_high"], colour)
            if row["error_complete"] is not None and row["error_complete"] != row["error"]:
                axes.plot([row["error_complete"]], [y], "|", color=colour, markersize=9, markeredgewidth=1.6)
        if copy is not None:
            axes.axvline(copy, color=MUTED, linewidth=1, linestyle=(0, (3, 3)))
            axes.annotate("doing nothing", (copy, -0.75), (-4, 0), textcoords="offset points", ha="right", fontsize=8)
        labels = [f"{row['method']} · {row['model']}" for row in table.iter_rows(named=True)]
        axes.set_yticks(range(len(labels)), labels, color=INK)
        axes.set(ylim=(len(labels) - 0.5, -1.1), xlabel="mean steering error")
        axes.set_xlim(left=0)
        axes.grid(axis="x")
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)

    panel = Panel("", draw, 5.2, 0.9 + 0.3 * table.height)
    alt = "Dots are means with failures at their worst, bars 95 percent intervals, ticks leave failures out"
    return Figure(f"ranking_{place}", "Mean steering error of every cell", alt, (panel,), table)


def _trade_off(rows: pl.DataFrame, place: int, controls: Collection[str]) -> Figure:
    table = rows.select(
        "goal_space_id", "probe", "rank", "model", "method", "error", "meaning_content", "completion_tokens"
    )
    known = table.filter(pl.col("error").is_not_null(), pl.col("meaning_content").is_not_null())
    panels = (Panel("", _labelled_points(known, controls), 5.2, 3.9),) if known.height else ()
    note = "" if panels else "Nothing to draw: no cell has both an error and a measure of meaning."
    alt = "Each point is a cell: meaning kept against steering error, size by tokens written"
    return Figure(f"trade_off_{place}", "Effect against side effect", alt, panels, table, note)


def _labelled_points(rows: pl.DataFrame, controls: Collection[str]) -> Callable[[Any], None]:
    def draw(axes: Any) -> None:
        most = max([1.0, *rows["completion_tokens"].drop_nulls().to_list()])
        left, right = _padded(rows["error"])
        low, high = _padded(rows["meaning_content"])
        labels: list[tuple[float, float, list[int]]] = []
        for row in rows.sort("rank").iter_rows(named=True):
            x, y = row["error"], row["meaning_content"]
            colour = CONTROL if row["method"] in controls else CELL
            tokens = row["completion_tokens"]
            size = 5 + 10 * ((tokens or 0.0) / most) ** 0.5
            # what answers took that were made elsewhere is not known: they have no size, and are hollow
            style = (
                {"markeredgewidth": 0} if tokens is not None else {"markerfacecolor": "none", "markeredgewidth": 1.2}
            )
            axes.plot([x], [y], "o", color=colour, alpha=0.55, markersize=size, **style)
            # points that all but coincide share a label
            shared = next(
                (
                    ranks
                    for a, b, ranks in labels
                    if abs(a - x) < 0.04 * (right - left) and abs(b - y) < 0.06 * (high - low)
                ),
                None,
            )
            if shared is None:
                labels.append((x, y, [row["rank"]]))
            else:
                shared.append(row["rank"])
        for x, y, ranks in labels:
            text = ", ".join(map(str, ranks))
            axes.annotate(text, (x, y), (0, 8), textcoords="offset points", ha="center", fontsize=8)
        axes.set(xlim=(left, right), ylim=(low, high))
        axes.set(xlabel="mean steering error", ylabel="meaning kept (content-word F1)")
        axes.grid(axis="both")

    return draw


def _padded(values: pl.Series) -> tuple[float, float]:
    low, high = float(values.to_numpy().min()), float(values.to_numpy().max())
    pad = 0.12 * max(high - low, 0.1)
    return max(0.0, low - pad), high + pad


def _preview(sections: list[dict[str, Any]], behaviors: tuple[BehaviorSection, ...]) -> str:
    blocks = []
    head = ["| rank | cell | error, failures at worst | of copy |", "|---|---|---|---|"]
    for section in sections:
        lines = [f"**{section['probe']}**: {section['sentence']}", "", *head]
        lines += [
            f"| {row['rank']} | {row['method']} on {row['model']} | {number(row['error'], 3)} "
            f"| {percent(row['of_copy'])} |"
            for row in section["rows"][:8]
        ]
        blocks.append("\n".join(lines))
    blocks += [f"**{section.behavior}**: {section.sentence}" for section in behaviors]
    return "\n\n".join(blocks)
