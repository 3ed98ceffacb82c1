"""What the page says of a search: what was chosen, what it is worth on items that chose nothing, and beside chance."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from steer_core.reports.drawing import CELL, CONTROL, DOWN, GOOD, Figure, Panel
from steer_core.reports.inputs import CellTables, filled
from steer_core.reports.numbers import number, p_value, percent, plural, signed, slug_words, span
from steer_core.reports.sections import Section
from steer_core.reports.sweeps import Sweep, measure_words

ROLES = {"chosen": "chosen", "front": "on the front", "random": "chosen by chance", "none": "nothing was chosen"}


@dataclass(frozen=True)
class SearchSection:
    """A search on the page.

    Attributes:
        sentences: of each behavior: what was found, what of it is choosing, how it stands beside chance.
        rows: settings that were told on test items.
        figures: names of the figures, one a behavior.
        objectives: further objectives of the rows, in order.
    """

    sentences: tuple[tuple[str, ...], ...]
    rows: tuple[dict[str, Any], ...]
    figures: tuple[str, ...]
    objectives: tuple[str, ...]


def sections(tables: CellTables, swept: Sequence[Sweep]) -> list[Section]:
    """A section where something was searched; none where nothing was."""
    results, trials = filled(tables.fitted.get("search_results")), filled(tables.fitted.get("trials"))
    if results is None or trials is None:
        return []
    said, figures = [], []
    for place, ((behavior,), own) in enumerate(results.group_by("behavior", maintain_order=True), start=1):
        said.append(sentences(own))
        figures.append(_figure(own, trials, str(behavior), place))
    rows = [{**r, "others": json.loads(r["others"]), "role": ROLES[r["role"]]} for r in results.to_dicts()]
    further = tuple(dict.fromkeys(name for r in rows for name in r["others"]))
    content = SearchSection(tuple(said), tuple(rows), tuple(f.name for f in figures), further)
    return [Section("search.html.jinja", content, (("search", "Search"),), tuple(figures))]


def sentences(own: pl.DataFrame) -> tuple[str, ...]:
    """What a search of one behavior found.

    Args:
        own: rows of `search_results` of one behavior.
    """
    chosen = own.filter(pl.col("role") == "chosen")
    if not chosen.height:
        why = own.filter(pl.col("role") == "none")["label"].to_list()
        because = f": {why[0]}" if why and why[0] != "no trial was complete" else ""
        return (f"{slug_words(own['behavior'][0])}: no trial was complete, so nothing was chosen{because}.",)
    row = chosen.row(0, named=True)
    what, items = measure_words(row["objective"]), plural(row["n"], "test item")
    said = [f"{slug_words(row['behavior'])}: of {plural(row['trials'], 'trial')}, {row['label']}."]
    if row["effect"] is None or row["effect_low"] is None:
        return (*said, "It could not be told on test items.")
    ends = span(row["effect_low"], row["effect_high"])
    if row["effect_low"] <= 0.0 <= row["effect_high"]:
        said.append(f"On {items} it was not seen to move the {what} ({signed(row['effect'])} {ends}).")
    else:
        said.append(f"On {items} it moves the {what} by {signed(row['effect'])} {ends}.")
    if row["missing"]:
        said.append(f"{percent(row['missing'])} of its test answers have no verdict, and count as the worst.")
    if row["test"] is not None:
        gap = row["validation"] - row["test"]
        said.append(
            f"Where it was chosen the mean was {number(row['validation'])}, on test items {number(row['test'])}: "
            f"{signed(gap)} is choosing and other items."
        )
    if row["p_random"] is not None:
        said.append(f"Among {plural(row['n_random'], 'random direction')} of its size: p {p_value(row['p_random'])}.")
    if row["over_random_low"] is not None:
        beside = span(row["over_random_low"], row["over_random_high"])
        if row["over_random_low"] == row["over_random_high"] == 0.0:
            return (*said, "What chance chose among as many trials has the same score on every item.")
        none = row["over_random_low"] <= 0.0 <= row["over_random_high"]
        tail = "no difference was seen" if none else "they differ"
        said.append(f"Less what chance chose among as many trials: {signed(row['over_random'])} {beside}; {tail}.")
    return tuple(said)


def _figure(own: pl.DataFrame, trials: pl.DataFrame, behavior: str, place: int) -> Figure:
    row = own.sort(pl.col("role") != "chosen").row(0, named=True)
    mine = trials.filter(pl.col("study") == row["study"], pl.col("state") == "complete").sort("number")
    values = [json.loads(v) for v in mine["values"]]
    first, second = row["objective"], next((n for v in values for n in v if n != row["objective"]), None)
    points = pl.DataFrame(
        {
            "number": mine["number"],
            "first": pl.Series([v[first] for v in values], dtype=pl.Float64),
            "second": pl.Series([v.get(second) for v in values], dtype=pl.Float64),
        }
    )
    told = [
        {"role": r["role"], "number": r["number"], "first": r["test"], "second": json.loads(r["others"]).get(second)}
        for r in own.to_dicts()
    ]
    kinds = {"role": pl.String, "number": pl.Int64, "first": pl.Float64, "second": pl.Float64}
    tried = points.with_columns(role=pl.lit("validation")).select(list(kinds))
    table = pl.concat([tried, pl.DataFrame(told, schema=kinds)])
    colours = {"chosen": CELL, "front": GOOD, "random": DOWN}

    def draw(axes: Any) -> None:
        across = "number" if second is None else "second"
        axes.plot(points[across].to_numpy(), points["first"].to_numpy(), "o", color=CONTROL, markersize=3.5, alpha=0.7)
        for one in told:
            if one["first"] is None or one[across] is None:
                continue
            axes.plot([one[across]], [one["first"]], "D", color=colours[one["role"]], markersize=7)
            axes.annotate(str(one["number"]), (one[across], one["first"]), xytext=(6, 4), textcoords="offset points")
        axes.set_ylabel(measure_words(first))
        axes.set_xlabel("trial" if second is None else measure_words(second))
        axes.grid(visible=True, axis="y")

    alt = (
        "Grey: complete trials on validation questions. Diamonds: settings told on test items, with the trial's number."
    )
    return Figure(f"search_{place}", f"Search: {slug_words(behavior)}", alt, (Panel("", draw, 5.2, 3.4),), table)
