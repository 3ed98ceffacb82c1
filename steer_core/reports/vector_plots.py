"""Figures of the vectors themselves: how they lie to one another, what they separate, how strength becomes movement."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import polars as pl

from steer_core.reports.drawing import CELL, CONTROL, DOWN, GOOD, GRID, INK, MUTED, Figure, Panel, thin
from steer_core.reports.numbers import signed, slug_words
from steer_core.reports.sweeps import strength_words, unit_words

#: Panels and concepts that are drawn at most; the tables hold the rest.
MOST_COSINE_PANELS, MOST_CONCEPTS, MOST_MAPS = 6, 12, 12
#: Dots of one class a panel.
_DOTS = 90

Draw = Callable[[Any], None]


def real_cosines(cosines: pl.DataFrame) -> pl.DataFrame:
    """Cosines of real vectors with one another; a control's name has its kind after a space."""
    return cosines.filter(~pl.col("left").str.contains(" "), ~pl.col("right").str.contains(" "))


def cosines_figure(cosines: pl.DataFrame | None) -> Figure:
    """Cosine of every two vectors, one map a layer and site.

    Args:
        cosines: columns left, right, layer, site, cosine; None where they were not computed.
    """
    if cosines is None:
        table = pl.DataFrame(schema={"left": pl.String, "right": pl.String, "layer": pl.Int64, "site": pl.String})
        return Figure(
            "cosines", _COSINES, "", (), table, "Nothing to draw: no cosines of directions are among the tables."
        )
    real = real_cosines(cosines)
    several = real["site"].n_unique() > 1
    panels: list[Panel] = []
    for (layer, site), rows in real.group_by("layer", "site", maintain_order=True):
        names = rows["left"].unique(maintain_order=True).to_list()[:MOST_CONCEPTS]
        if len(names) > 1 and len(panels) < MOST_COSINE_PANELS:
            title = f"layer {layer}, {site}" if several else f"layer {layer}"
            size = 0.62 * len(names)
            panels.append(Panel(title, _cosine_map(rows, names), 1.55 + size, 1.25 + 0.78 * size))
    note = "" if panels else "Nothing to draw: no layer has two vectors to compare."
    alt = "Each cell is the cosine of two vectors: 1 the same direction, 0 unrelated, minus 1 opposite"
    return Figure("cosines", _COSINES, alt, tuple(panels), cosines, note)


_COSINES = "How the vectors lie to one another"


def _cosine_map(rows: pl.DataFrame, names: Sequence[str]) -> Draw:
    cosine = {(r["left"], r["right"]): r["cosine"] for r in rows.iter_rows(named=True)}

    def draw(axes: Any) -> None:
        from matplotlib.patches import Rectangle

        for y, left in enumerate(names):
            for x, right in enumerate(names):
                value = cosine.get((left, right))
                if value is None or left == right:
                    axes.text(x, y, "·" if left == right else "–", ha="center", va="center", color=MUTED, fontsize=9)
                    continue
                colour, alpha = (CELL if value >= 0 else DOWN), 0.62 * abs(value)
                corner = (x - 0.47, y - 0.46)
                axes.add_patch(Rectangle(corner, 0.94, 0.92, facecolor=colour, alpha=alpha, linewidth=0))
                axes.text(x, y, signed(value), ha="center", va="center", fontsize=8.5)
        words = [slug_words(name) for name in names]
        axes.set_xticks(range(len(names)), words, rotation=38, ha="left", rotation_mode="anchor")
        axes.set_yticks(range(len(names)), words, color=INK)
        axes.set(xlim=(-0.5, len(names) - 0.5), ylim=(len(names) - 0.5, -0.5))
        axes.xaxis.tick_top()
        axes.tick_params(axis="x", pad=1)
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)

    return draw


def activations_figure(
    activations: pl.DataFrame | None, concepts: Sequence[str], layers: Collection[int] = ()
) -> Figure:
    """Activations of the contrast examples in the plane of their two main components, a panel a concept and layer.

    Args:
        activations: rows of `schemas.ActivationMap`; None where there are none.
        concepts: in the order of their panels; others follow.
        layers: layers whose panels come first where there are too many.
    """
    title = "What the vectors separate"
    if activations is None:
        table = pl.DataFrame(schema={"concept": pl.String, "layer": pl.Int64, "site": pl.String})
        return Figure("activations", title, "", (), table, "Nothing to draw: no activations were kept.")
    order = list(dict.fromkeys([*concepts, *activations["concept"].unique(maintain_order=True)]))
    kinds = sorted(
        activations.select("concept", "layer", "site").unique().rows(),
        key=lambda k: (order.index(k[0]), k[1] not in layers, k[1], k[2]),
    )
    turns: dict[str, int] = {}
    ranked = []
    for kind in kinds:
        turns[kind[0]] = turns.get(kind[0], -1) + 1
        ranked.append((turns[kind[0]], order.index(kind[0]), kind))
    # each concept's first layer before any concept's second
    chosen = sorted(sorted(ranked)[:MOST_MAPS], key=lambda r: (r[1], r[2][1], r[2][2]))
    several = activations["site"].n_unique() > 1
    panels = tuple(
        Panel(
            f"{slug_words(concept)}\nlayer {layer}{f', {site}' if several else ''}",
            _plane(activations.filter(concept=concept, layer=layer, site=site)),
            2.45,
            2.3,
        )
        for _, _, (concept, layer, site) in chosen
    )
    alt = "Each dot is an example: blue shows the concept, orange its opposite"
    return Figure("activations", title, alt, panels, activations)


def _plane(rows: pl.DataFrame) -> Draw:
    def draw(axes: Any) -> None:
        axes.axhline(0, color=GRID, linewidth=0.8)
        axes.axvline(0, color=GRID, linewidth=0.8)
        for label, colour, marker in ((0, DOWN, "D"), (1, CELL, "o")):
            shown = thin(rows.filter(pl.col("label") == label), _DOTS)
            axes.plot(
                shown["first"], shown["second"], marker, color=colour, alpha=0.45, markersize=3, markeredgewidth=0
            )
        axes.set(xlabel="first component (sd)", ylabel="second (sd)")
        axes.locator_params(nbins=5)

    return draw


def dose_figure(doses: pl.DataFrame | None) -> Figure:
    """Move of each goal against the strength of its vector: measured, fitted, and what may not be asked for.

    Args:
        doses: rows of `schemas.DoseResponse`; None where there are none.
    """
    title = "How strength becomes movement"
    if doses is None:
        table = pl.DataFrame(schema={"goal": pl.String, "observed_goal": pl.String, "strength": pl.Float64})
        return Figure("dose", title, "", (), table, "Nothing to draw: no dose-response was measured.")
    tried = doses.filter(pl.col("strength").is_not_null())
    limits = _limits(tried)
    panels = tuple(
        Panel(slug_words(str(goal)), _dose(rows, str(goal), limits), 3.5, 2.7)
        for (goal,), rows in tried.group_by("goal", maintain_order=True)
    )
    alt = "Dots are mean moves with 95 percent intervals, the line the monotone fit, grey what else moves"
    note = "" if panels else "Nothing to draw: no strength was tried."
    return Figure("dose", title, alt, panels, doses, note)


def _limits(rows: pl.DataFrame) -> tuple[float, float]:
    """One scale for all goals, so that panels compare by eye."""
    values = [v for name in ("move", "low", "high", "fitted") for v in rows[name].drop_nulls().to_list()] or [0.0]
    pad = 0.06 * (max(values) - min(values)) or 0.1
    return min(*values, 0.0) - pad, max(*values, 0.0) + pad


def _dose(rows: pl.DataFrame, goal: str, limits: tuple[float, float]) -> Draw:
    own = rows.filter(pl.col("observed_goal") == goal).sort("strength")
    fitted = own.filter(pl.col("usable"), pl.col("fitted").is_not_null())

    def draw(axes: Any) -> None:
        axes.axhline(0, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        others = rows.filter(pl.col("observed_goal") != goal, pl.col("move").is_not_null()).sort("strength")
        for _, other in others.group_by("observed_goal", maintain_order=True):
            axes.plot(other["strength"], other["move"], color=CONTROL, linewidth=1, alpha=0.6)
        axes.plot(fitted["strength"], fitted["fitted"], color=GOOD, linewidth=2.4, alpha=0.8)
        for row in own.filter(pl.col("move").is_not_null()).iter_rows(named=True):
            colour = CELL if row["usable"] else DOWN
            if row["usable"] and row["low"] is not None and row["high"] is not None:
                axes.plot([row["strength"]] * 2, [row["low"], row["high"]], color=colour, linewidth=1.4, alpha=0.7)
            axes.plot([row["strength"]], [row["move"]], "o" if row["usable"] else "x", color=colour, markersize=5)
        for row in own.filter(pl.col("move").is_null()).iter_rows(named=True):
            # no answer at all: marked at the foot of the panel
            axes.plot([row["strength"]], [limits[0]], "x", color=DOWN, markersize=5, clip_on=False)
        unit = str(own["unit"][0]) if own.height else None
        strengths = own["strength"].to_list()
        ticks = sorted({min(strengths), max(strengths), 0.0 if min(strengths) < 0 < max(strengths) else min(strengths)})
        axes.set_xticks(ticks, [strength_words(s, unit) for s in ticks])
        axes.set(ylim=limits, ylabel="move in goal space")
        axes.set_xlabel(unit_words(unit), loc="left", fontsize=8)
        axes.grid(axis="y")

    return draw
