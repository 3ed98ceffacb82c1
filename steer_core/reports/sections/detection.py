"""What the page says of directions that are read instead of written: layer by layer, on answers that were in no fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from steer_core.reports.drawing import CELL, CONTROL, DOWN, Figure, Panel
from steer_core.reports.inputs import CellTables, filled
from steer_core.reports.numbers import number, slug_words, span
from steer_core.reports.sections import Section
from steer_core.reports.sweeps import Sweep

#: Direction -> its name, and the colour of its curve.
DIRECTIONS = {"mean_difference": ("mean difference: what steers", CELL), "discriminant": ("discriminant", DOWN)}
#: Reading -> its name.
READS = {"answer": "mean of the answer", "last_token": "last token"}


@dataclass(frozen=True)
class DetectionSection:
    """Traits read off activations.

    Attributes:
        sentences: one a behavior: what is read best, and what it is worth.
        rows: the place that was chosen, a row a behavior and direction.
        figures: names of the figures, one a behavior.
    """

    sentences: tuple[str, ...]
    rows: tuple[dict[str, Any], ...]
    figures: tuple[str, ...]


def sections(tables: CellTables, swept: Sequence[Sweep]) -> list[Section]:
    """A section where directions of behaviors were read; none where they were not."""
    found = filled(tables.fitted.get("detections"))
    if found is None:
        return []
    concepts = found["concept"].unique(maintain_order=True).to_list()
    rows = [row for concept in concepts for row in chosen(found.filter(pl.col("concept") == concept))]
    figures = [_figure(found.filter(pl.col("concept") == c), c, k) for k, c in enumerate(concepts, start=1)]
    content = DetectionSection(
        tuple(sentence(found.filter(pl.col("concept") == c)) for c in concepts),
        tuple(rows),
        tuple(f.name for f in figures),
    )
    return [Section("detection.html.jinja", content, (("detection", "Read instead of written"),), tuple(figures))]


def chosen(own: pl.DataFrame) -> list[dict[str, Any]]:
    """The best place of each direction by folds of the fitted answers, the better direction first.

    Args:
        own: rows of `detections` of one behavior.
    """
    order = own.sort("fitted_auroc", "layer", descending=[True, False])
    return order.unique("direction", keep="first", maintain_order=True).to_dicts()


def sentence(own: pl.DataFrame) -> str:
    """What is read best of a behavior, and what it is worth on answers that were in no fit."""
    best = chosen(own)[0]
    where = f"layer {best['layer']}, {READS[best['read']]}, by the {slug_words(best['direction'])}"
    name, figure = slug_words(best["concept"]), number(best["auroc"])
    if best["low"] is None or best["high"] is None:
        return f"{name}: {where}: AUROC {figure}, of too few pairs for an interval."
    ends = span(best["low"], best["high"])
    if best["low"] > 0.5:
        said = f"an answer with the trait lies above one without in {figure} {ends} of cases"
    elif best["high"] < 0.5:
        said = f"it reads the wrong way on answers that it never saw: AUROC {figure} {ends}"
    else:
        said = f"it was not told apart from chance: AUROC {figure} {ends}, .5 is chance"
    return f"{name}: {where}: {said}."


def _figure(own: pl.DataFrame, concept: str, place: int) -> Figure:
    reads = own["read"].unique(maintain_order=True).to_list()

    def draw(read: str) -> Any:
        def on(axes: Any) -> None:
            for direction, (name, colour) in DIRECTIONS.items():
                rows = own.filter(pl.col("read") == read, pl.col("direction") == direction).sort("layer")
                layers = rows["layer"].to_numpy()
                axes.plot(layers, rows["auroc"].to_numpy(), "o-", color=colour, markersize=4, label=name)
                known = rows.drop_nulls(["low", "high"])
                at, low, high = (known[c].to_numpy() for c in ("layer", "low", "high"))
                axes.fill_between(at, low, high, color=colour, alpha=0.15, linewidth=0)
            axes.axhline(0.5, color=CONTROL, linestyle="--", linewidth=1)
            axes.set_ylim(min(0.4, float(np.nanmin(own["auroc"].to_numpy())) - 0.05), 1.02)
            axes.set_xlabel("layer")
            axes.set_ylabel("AUROC")
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.grid(visible=True, axis="y")

        return on

    panels = tuple(Panel(READS.get(r, r), draw(r), 3.6, 2.6) for r in reads)
    alt = "AUROC against layer, with intervals: how well answers with the trait are told from answers without."
    return Figure(f"detection_{place}", f"Read at each layer: {slug_words(concept)}", alt, panels, own)
