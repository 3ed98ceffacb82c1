"""Cells beside each other, apart from the request: a cell against its controls, and all in pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from schemas.profiles import PLAIN
from steer_core.evaluation.profiles.changes import can_stand
from steer_core.reports.drawing import Figure
from steer_core.reports.numbers import listed, plural, signed
from steer_core.reports.profile_plots import asked_words, changes_figure

#: Metrics of a pair that a sentence names.
NAMED = 3


@dataclass(frozen=True)
class Beside:
    """Pairs of cells.

    Attributes:
        sentences: a pair each: how much differs, and what most.
        stands: differences that stand among all, pair by pair, largest first; `pair` says which.
        n_tests: how many were looked at.
        figure: name of the plot; empty where nothing can be drawn.
        undrawn: what the plot leaves out, as a sentence; empty where nothing.
        alone: who is beside nobody, and why, as a sentence; empty where there is none.
    """

    sentences: tuple[str, ...]
    stands: tuple[dict[str, Any], ...]
    n_tests: int
    figure: str
    undrawn: str
    alone: str


def beside(rows: pl.DataFrame, expected: Sequence[str], name: str) -> tuple[Beside | None, tuple[Figure, ...]]:
    """What pairs of cells of one model differ in, with its plot; None where nobody is expected beside another.

    Args:
        rows: rows of `schemas.ProfileContrasts` of one model.
        expected: methods of which each should be beside some other.
        name: of the figure.
    """
    # what has no pair, or no value on a side, is no comparison
    known = rows.filter(pl.col("p").is_not_null())
    there = {*known["method"], *known["other_method"]}
    alone = [method for method in expected if method not in there]
    if not known.height and not alone:
        return None, ()
    # those that differ most come first
    keys = ["method", "other_method", "request"]
    pairs = (
        known.group_by(keys, maintain_order=True)
        .agg(pl.col("different").sum())
        .sort("different", descending=True, maintain_order=True)
        .drop("different")
        .with_row_index("pair")
    )
    labels = [
        {"arm_id": str(p["pair"]), "label": f"{p['method']} against {p['other_method']}{_asked(p['request'])}"}
        for p in pairs.iter_rows(named=True)
    ]
    placed = (
        known.join(pairs, on=keys, how="left", maintain_order="left")
        .with_columns(arm_id=pl.col("pair").cast(pl.String))
        .drop("pair")
    )
    sentences, stands = [], []
    for label in labels:
        own = placed.filter(pl.col("arm_id") == label["arm_id"])
        different = own.filter("different").sort("p_adjusted", pl.col("effect_size").abs(), descending=[False, True])
        sentences.append(f"{label['label']}: {_said(own, different, placed.height)}")
        stands += [row | {"pair": label["label"]} for row in different.iter_rows(named=True)]
    title = "What cells differ in, asked for the same"
    plot = changes_figure(labels, placed, name=name, title=title, against="the other cell")
    flat = placed.filter("different", pl.col("effect_size").is_null()).height
    left = [plural(flat, "difference") + " without a spread to measure by"] if flat else []
    left += [plural(len(labels) - len(plot.panels), "further pair")] if len(labels) > len(plot.panels) else []
    content = Beside(
        sentences=tuple(sentences),
        stands=tuple(stands),
        n_tests=placed.height,
        figure=plot.name if plot.panels else "",
        undrawn=f"Not drawn: {listed(left)}; the table has them." if left else "",
        alone=f"Beside no other: {listed(alone)}, without a request and a current profile in common." if alone else "",
    )
    return content, (plot,) if plot.panels else ()


def _asked(request: str) -> str:
    words = asked_words(request).replace("_", " ")
    return f", asked for {words}" if words else ""


def _said(own: pl.DataFrame, different: pl.DataFrame, n_tests: int) -> str:
    if not different.height:
        able = can_stand(n_tests, int(own["n_clusters"].max()))  # type: ignore[arg-type]  # of integers
        few = "" if able else ": among so many, these items are too few for any to be"
        return f"none of {plural(own.height, 'figure')} can be told apart{few}."
    named = [
        f"{r['metric'].replace('_', ' ')} ({r['profile']}) {signed(r['difference'], 3)}"
        for r in different.head(NAMED).iter_rows(named=True)
    ]
    more = f" and {different.height - NAMED} more" if different.height > NAMED else ""
    verb = "differs" if different.height == 1 else "differ"
    return f"{different.height} of {plural(own.height, 'figure')} {verb}: {listed(named)}{more}."


@dataclass(frozen=True)
class PairSection:
    """Cells of one model beside each other, on the leaderboard.

    Attributes:
        anchor: of the page.
        model: whose.
        content: what they differ in.
    """

    anchor: str
    model: str
    content: Beside


def pair_sections(
    frontier: pl.DataFrame | None, pairs: pl.DataFrame | None
) -> tuple[tuple[PairSection, ...], tuple[Figure, ...]]:
    """A section a model with at least two cells that steer.

    Args:
        frontier: rows of `schemas.Frontier`: who was profiled.
        pairs: rows of `schemas.ProfileContrasts`.
    """
    if frontier is None or pairs is None:
        return (), ()
    sections: list[PairSection] = []
    figures: list[Figure] = []
    steered = frontier.filter(pl.col("arm_id") != PLAIN, "headline")
    for place, ((model,), own) in enumerate(steered.group_by("model", maintain_order=True), 1):
        methods = own["method"].unique().sort().to_list()
        if len(methods) < 2:
            continue
        content, drawn = beside(pairs.filter(pl.col("model") == model), methods, f"pairs_{place}")
        if content is not None:
            sections.append(PairSection(f"pairs-{place}", str(model), content))
            figures += drawn
    return tuple(sections), tuple(figures)
