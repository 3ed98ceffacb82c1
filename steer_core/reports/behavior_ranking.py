"""Behaviors on the leaderboard: what every method does to each of them at both ends, and at what price."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from steer_core.evaluation.behaviors.findings import NEUTRAL
from steer_core.reports.drawing import CELL, CONTROL, MUTED, Figure, Panel
from steer_core.reports.numbers import number, p_value, plural, signed, slug_words
from steer_core.reports.page import Axis
from steer_core.reports.sweeps import HEADLINES, layer_words, measure_words, position_words
from steer_core.statistics import LEVEL, least_controls

#: Columns of `behavior_table`.
_SCHEMA = {
    "rank": pl.Int64,
    "behavior": pl.String,
    "model": pl.String,
    "method": pl.String,
    "measure": pl.String,
    "group": pl.String,
    "layers": pl.String,
    "positions": pl.String,
    "settings": pl.Int64,
    **{
        f"{end}{part}": pl.Float64 for end in ("effect_low", "effect_high", "spearman") for part in ("", "_from", "_to")
    },
    **dict.fromkeys(("anti_steerable", "ratio_low", "ratio_high"), pl.Float64),
    **{f"p_{end}": pl.Float64 for end in ("low", "high")},
    **dict.fromkeys(("n_items", "n_random"), pl.Int64),
    **dict.fromkeys(("detail_low", "detail_high"), pl.String),
    "swing": pl.Float64,
}


@dataclass(frozen=True)
class BehaviorSection:
    """One behavior on the leaderboard page.

    Attributes:
        behavior: its name.
        measure: what its effects are measured by, in words.
        anchor: id on the page.
        sentence: who moves it most, who moves it no farther than random directions do.
        rows: a row a cell, by falling distance between the two ends.
        axis: common scale of the effects.
        figure: name of its figure.
    """

    behavior: str
    measure: str
    anchor: str
    sentence: str
    rows: tuple[dict[str, Any], ...]
    axis: Axis
    figure: str


def behavior_table(findings: pl.DataFrame) -> pl.DataFrame:
    """One row a behavior, measure, model and method, from the findings of its main setting.

    The main setting is the one with random controls; without any, the one with a rank correlation; else the first. Rows
    of one behavior are ordered by the distance between the effects at the two ends.

    Args:
        findings: rows of `schemas.SweepFindings` with the columns `model` and `method` added.
    """
    rows = []
    for (behavior, model, method), own in findings.group_by("behavior", "model", "method", maintain_order=True):
        row = _row(own)
        if row is not None:
            rows.append({"behavior": behavior, "model": model, "method": method, **row})
    table = pl.DataFrame([{"rank": 0, **row} for row in rows], schema=_SCHEMA)
    ordered = table.sort(
        "behavior",
        "measure",
        "swing",
        "model",
        "method",
        descending=[False, False, True, False, False],
        nulls_last=True,
    )
    return ordered.with_columns(rank=pl.int_range(1, pl.len() + 1).over("behavior", "measure"))


def _row(own: pl.DataFrame) -> dict[str, Any] | None:
    items = own.filter(pl.col("group") != NEUTRAL)
    measured = items.filter(pl.col("finding").str.starts_with("effect_"), pl.col("value").is_not_null())
    measure = next((m for m in HEADLINES if m in set(measured["measure"])), None)
    if measure is None:
        return None
    groups = sorted(set(measured.filter(pl.col("measure") == measure)["group"]))
    group = "main" if "main" in groups else groups[0]
    of_group = items.filter(pl.col("group") == group)
    settings = of_group.filter(pl.col("measure") == measure).select("layers", "positions").unique(maintain_order=True)
    layers, positions = _main(of_group.filter(pl.col("measure") == measure), settings.rows())
    here = of_group.filter(pl.col("layers") == layers, pl.col("positions") == positions)
    found = {(r["measure"], r["finding"]): r for r in here.iter_rows(named=True)}

    def figure(finding: str, of: str = "", column: str = "value") -> Any:
        row = found.get((of or measure, finding))
        return None if row is None else row[column]

    row: dict[str, Any] = {"measure": measure, "group": group, "layers": layers, "positions": positions}
    row["settings"] = settings.height
    for name in ("effect_low", "effect_high", "spearman"):
        row |= {name: figure(name), f"{name}_from": figure(name, "", "low"), f"{name}_to": figure(name, "", "high")}
    row["anti_steerable"] = figure("anti_steerable")
    for end in ("low", "high"):
        row |= {f"p_{end}": figure(f"p_random_{end}")}
        row |= {
            f"ratio_{end}": figure(f"ratio_{end}", "perplexity"),
            f"detail_{end}": figure(f"effect_{end}", "", "detail"),
        }
    row["n_items"] = figure("effect_high", "", "n")
    row["n_random"] = figure("p_random_high", "", "n")
    row["swing"] = None if row["effect_high"] is None else abs(row["effect_high"] - (row["effect_low"] or 0.0))
    return row


def _main(rows: pl.DataFrame, settings: list[tuple[str, str]]) -> tuple[str, str]:
    for finding in ("p_random_high", "spearman"):
        known = rows.filter(pl.col("finding") == finding).select("layers", "positions").rows()
        if known:
            return str(known[0][0]), str(known[0][1])
    return settings[0]


def verdict(p: float | None, n: int | None) -> str:
    """Whether an effect can be told from those of random directions: no "yes" that so few cannot carry."""
    if p is None or not n:
        return "not run"
    if n < least_controls():
        return "too few"
    return f"yes ({p_value(p)})" if p <= LEVEL else f"no ({p_value(p)})"


def behavior_sections(
    findings: pl.DataFrame, controls: Collection[str], links: Mapping[tuple[str, str], str]
) -> tuple[tuple[BehaviorSection, ...], tuple[Figure, ...]]:
    """The behaviors of a leaderboard with their figures.

    Args:
        findings: rows of `schemas.SweepFindings` with the columns `model` and `method` added.
        controls: methods that are controls: shown, marked, and never called the strongest.
        links: (model, method) -> the cell's page.
    """
    sections, figures = [], []
    table = behavior_table(findings)
    for place, ((behavior, measure), rows) in enumerate(table.group_by("behavior", "measure", maintain_order=True), 1):
        figure = _frontier(rows, place, controls)
        figures.append(figure)
        ends = [v for name in ("effect_low", "effect_high") for part in ("", "_from", "_to") for v in rows[name + part]]
        known = [abs(v) for v in ends if v is not None]
        reach = 1.06 * max(known, default=1.0)
        sections.append(
            BehaviorSection(
                behavior=str(behavior),
                measure=measure_words(str(measure)),
                anchor=f"behavior-{place}",
                sentence=_sentence(rows, controls),
                rows=tuple(
                    row
                    | {
                        "link": links.get((row["model"], row["method"])),
                        "control": row["method"] in controls,
                        "where": f"{layer_words(row['layers'])}, {position_words(row['positions'])}",
                        "beyond_words": " / ".join(_verdicts(row)) or "–",
                    }
                    for row in rows.iter_rows(named=True)
                ),
                axis=Axis(-reach, reach),
                figure=figure.name,
            )
        )
    return tuple(sections), tuple(figures)


def _sentence(rows: pl.DataFrame, controls: Collection[str]) -> str:
    methods = rows.filter(~pl.col("method").is_in(list(controls)), pl.col("swing").is_not_null())
    if methods.is_empty():
        return "No method has an effect to report yet."
    best = methods.row(0, named=True)
    ends = [signed(best[name]) for name in ("effect_low", "effect_high") if best[name] is not None]
    text = f"{best['method']} on {best['model']} has the widest swing: {' and '.join(ends)} against unsteered"
    ratios = [number(best[name]) for name in ("ratio_low", "ratio_high") if best[name] is not None]
    text += f", at {' and '.join(ratios)} times the perplexity." if ratios else "; what that costs was not measured."
    cells = methods.to_dicts()
    unheld = [row for row in cells if "not run" in _verdicts(row)]
    lost = [
        row for row in cells if row not in unheld and not all(verdict.startswith("yes") for verdict in _verdicts(row))
    ]
    if lost:
        text += f" {plural(len(lost), 'cell')} cannot be told from random directions of equal size at one end or both."
    if unheld:
        were = "was" if len(unheld) == 1 else "were"
        text += f" {plural(len(unheld), 'cell')} {were} not held against random directions."
    return text


def _verdicts(row: Mapping[str, Any]) -> list[str]:
    ends = [end for end in ("low", "high") if row[f"effect_{end}"] is not None]
    return [verdict(row[f"p_{end}"], row["n_random"]) for end in ends]


def _frontier(rows: pl.DataFrame, place: int, controls: Collection[str]) -> Figure:
    """Effect at both ends against perplexity over unsteered; numbers are places in the table."""
    points = [
        (row["rank"], row[f"effect_{end}"], row[f"ratio_{end}"], row["method"] in controls)
        for row in rows.iter_rows(named=True)
        for end in ("low", "high")
        if row[f"effect_{end}"] is not None and row[f"ratio_{end}"] is not None
    ]
    panels = (Panel("", _points(points), 6.0, 3.6),) if points else ()
    note = "" if panels else "Nothing to draw: no cell has both an effect and a perplexity."
    alt = "Each point is an end of a cell's strengths: effect sideways, perplexity over unsteered upwards"
    title = f"{slug_words(rows['behavior'][0])}: effect against side effect"
    return Figure(f"behavior_{place}", title, alt, panels, rows, note)


def _points(points: Sequence[tuple[int, float, float, bool]]) -> Callable[[Any], None]:
    """Draws (row of the table, effect, perplexity over unsteered, whether a control) as labelled points."""

    def draw(axes: Any) -> None:
        effects, ratios = [effect for _, effect, _, _ in points], [ratio for _, _, ratio, _ in points]
        low, high = min(*effects, 0.0), max(*effects, 0.0)
        pad = 0.1 * (high - low) or 0.5
        axes.axhline(1.0, color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)
        axes.axvline(0.0, color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)
        for _, effect, ratio, control in points:
            axes.plot([effect], [ratio], "o", color=CONTROL if control else CELL, alpha=0.75, markersize=6.5)
        if min(ratios) > 0 and max(ratios) > 8 * min(ratios):
            axes.set_yscale("log")
        axes.margins(y=0.14)
        axes.set(xlim=(low - pad, high + pad), ylabel="perplexity over unsteered")
        to_screen = axes.transData.transform
        labels: list[tuple[float, float, list[int]]] = []
        for rank, effect, ratio, _ in points:
            # points that all but coincide share a label
            here = to_screen((effect, ratio))
            near = next((ranks for a, b, ranks in labels if abs(to_screen((a, b)) - here).max() < 9), None)
            if near is None:
                labels.append((effect, ratio, [rank]))
            else:
                near.append(rank)
        for effect, ratio, ranks in labels:
            text = ", ".join(map(str, sorted(set(ranks))))
            axes.annotate(text, (effect, ratio), (0, 8), textcoords="offset points", ha="center", fontsize=8)
        axes.set_xlabel("effect: difference to unsteered at each end of the strengths", loc="left")
        axes.grid(axis="both")

    return draw
