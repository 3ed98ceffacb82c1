"""What a sweep costs: fluency, distance from the unsteered model, and what moves although nobody asked."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from steer_core.evaluation.behaviors.findings import NEUTRAL
from steer_core.evaluation.behaviors.side_effects import GOAL, JUDGED, OTHER
from steer_core.reports.drawing import CELL, CONTROL, GOOD, INK, MUTED, Figure, Panel
from steer_core.reports.numbers import slug_words
from steer_core.reports.sweep_plots import SHARES, curve, rows_behind, thinned
from steer_core.reports.sweeps import Sweep, measure_words, strength_words

#: Measures of written answers that cost something, in the order of their panels.
_WRITTEN = ("perplexity", "kl", "length", "truncated", "failed", "refused")
#: Measures that get a panel only where one of them is not 0.
_RARE = frozenset({"truncated", "failed", "refused"})
#: Where the largest is this many times the smallest, the scale is logarithmic.
_WIDE = 8.0
#: Strengths that are named beside their points.
_MOST_TOLD = 10
#: Characters of a title that fit above a small panel.
_TITLE = 22
#: Roles of arms in a frontier -> colour, in drawing order.
_ROLES = {"random": CONTROL, "shuffled": CONTROL, "elsewhere": CELL, "vector": CELL, "prompt": GOOD}


def costs_figure(sweep: Sweep) -> Figure:
    """Small multiples: every side effect against strength, goals on one scale and other behaviors on one scale."""
    panels = []
    measures = set(sweep.summary["measure"])
    goals = sorted(m for m in measures if m.startswith(GOAL))
    others = sorted(m for m in measures if m.startswith(OTHER))
    common = _common_limits(sweep, goals)
    for measure in (*_WRITTEN, *goals, *others, "accuracy"):
        group = NEUTRAL if measure == "accuracy" else sweep.group
        means = _means(sweep, measure, group)
        if not means or (measure in _RARE and not any(means)):
            continue
        limits = common if measure in goals else sweep.scale if measure in others else None
        if measure in SHARES and min(means) == max(means):
            limits = (0.0, 1.0)
        log = measure == "perplexity" and min(means) > 0 and max(means) > _WIDE * min(means)
        draw = curve(sweep, measure, group, limits, small=True, log=log)
        panels.append(Panel(_title(measure, others), draw, 2.2, 1.8))
    note = "" if panels else f"Nothing to draw: no side effect of {sweep.behavior} was measured."
    name, title = f"costs_{sweep.behavior}", f"{slug_words(sweep.behavior)}: what it costs"
    alt = "The line is the vector with its 95 percent band, grey marks are controls, dashed the unsteered model"
    table = rows_behind(sweep, [*_WRITTEN, *goals, *others, "accuracy"])
    return Figure(name, title, alt, tuple(panels), table, note)


def _title(measure: str, others: Sequence[str]) -> str:
    words = measure_words(measure).removesuffix(", unsteered model").removesuffix(" on the neutral set")
    short = {"kl": "KL (nats a token)", "accuracy": "accuracy, neutral set"}
    title = short.get(measure, f"judged: {words}" if measure in others else words)
    return "\n".join(textwrap.wrap(title, _TITLE, break_on_hyphens=False))


def _means(sweep: Sweep, measure: str, group: str) -> list[float]:
    main = sweep.curve(measure, group)["mean"].drop_nulls().to_list()
    if not main:
        return []
    off = sweep.unsteered(measure, group)
    return [*main, *([off["mean"]] if off and off["mean"] is not None else [])]


def _common_limits(sweep: Sweep, measures: Sequence[str]) -> tuple[float, float] | None:
    """One scale for several measures of one unit, so that their panels compare by eye."""
    values = [
        value
        for measure in measures
        for rows in (sweep.curve(measure), *(sweep.control(role, measure) for role in ("random", "shuffled")))
        for name in ("mean", "low", "high")
        for value in rows[name].drop_nulls().to_list()
    ]
    values += [row["mean"] for m in measures if (row := sweep.unsteered(m)) and row["mean"] is not None]
    if not values:
        return None
    pad = 0.05 * (max(values) - min(values)) or 0.05
    return min(values) - pad, max(values) + pad


def frontier_table(sweep: Sweep) -> pl.DataFrame:
    """Every arm with its effect and its price.

    Returns:
        Columns arm_id, role (`elsewhere`: the vector at another layer, at other positions or with another seed), label,
        strength, effect (paired difference to the unsteered arm), perplexity, perplexity_ratio (mean over the mean of
        the unsteered arm), kl.
    """
    here = sweep.summary.filter(pl.col("group") == sweep.group)
    effects = here.filter(pl.col("measure") == (sweep.measure or JUDGED), pl.col("role") != "off")
    off = sweep.unsteered("perplexity")
    base = off["mean"] if off and off["mean"] else None
    elsewhere = (pl.col("role") == "vector") & ~pl.col("main")
    table = effects.select(
        "arm_id",
        pl.when(elsewhere).then(pl.lit("elsewhere")).otherwise("role").alias("role"),
        pl.struct("role", "strength", "system", "turns", "side")
        .map_elements(lambda row: _label(sweep, row), return_dtype=pl.String)
        .alias("label"),
        "strength",
        effect="difference",
    )
    for measure in ("perplexity", "kl"):
        means = here.filter(pl.col("measure") == measure).select("arm_id", pl.col("mean").alias(measure))
        table = table.join(means, on="arm_id", how="left", maintain_order="left")
    ratio = pl.lit(None, pl.Float64) if base is None else pl.col("perplexity") / base
    return table.with_columns(ratio.alias("perplexity_ratio")).select(
        "arm_id", "role", "label", "strength", "effect", "perplexity", "perplexity_ratio", "kl"
    )


def _label(sweep: Sweep, row: dict[str, Any]) -> str:
    return sweep.prompt_label(row) if row["role"] == "prompt" else strength_words(row["strength"], sweep.unit)


def frontier_figure(sweep: Sweep) -> Figure:
    """Effect against its price, a point an arm: perplexity over unsteered, and KL."""
    table = frontier_table(sweep)
    panels = []
    for column, label, idle in (
        ("perplexity_ratio", "perplexity over unsteered", 1.0),
        ("kl", "KL from unsteered (nats a token)", 0.0),
    ):
        rows = table.filter(pl.col("effect").is_not_null(), pl.col(column).is_not_null())
        if rows.height:
            panels.append(Panel("", _frontier(sweep, rows, column, label, idle), 4.9, 3.5))
    note = "" if panels else f"Nothing to draw: neither perplexity nor KL of {sweep.behavior} was measured."
    alt = "Each point is an arm: sideways is effect, up is price; blue the vector, grey controls, green prompts"
    title = f"{slug_words(sweep.behavior)}: effect against side effect"
    return Figure(f"frontier_{sweep.behavior}", title, alt, tuple(panels), table, note)


@dataclass
class _Point:
    x: float
    y: float
    labels: list[str]
    colour: str


def _frontier(sweep: Sweep, rows: pl.DataFrame, column: str, label: str, idle: float) -> Callable[[Any], None]:
    values, effects = rows[column].to_list(), rows["effect"].to_list()
    log = column == "perplexity_ratio" and min(values) > 0 and max(values) > _WIDE * min(values)

    def draw(axes: Any) -> None:
        low, high = min(*effects, 0.0), max(*effects, 0.0)
        pad = 0.11 * (high - low) or 0.5
        axes.axhline(idle, color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)
        axes.axvline(0.0, color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)
        path = rows.filter(pl.col("role") == "vector").sort("strength")
        axes.plot(path["effect"], path[column], color=CELL, linewidth=1, alpha=0.45)
        for role, colour in _ROLES.items():
            own = rows.filter(pl.col("role") == role)
            axes.plot(own["effect"], own[column], linestyle="none", color=colour, **_MARKS[role])
        if log:
            axes.set_yscale("log")
        axes.set(xlim=(low - pad, high + pad), ylabel=label)
        bottom, top = axes.get_ylim()
        axes.set_ylim(bottom if log else bottom - 0.06 * (top - bottom), top)
        told = thinned(path["strength"].to_list(), _MOST_TOLD)
        named = rows.filter(
            (pl.col("role") == "prompt") | ((pl.col("role") == "vector") & pl.col("strength").is_in(told))
        ).sort("strength", nulls_last=True)
        for point in _merged(axes, named, column):
            text = ", ".join(point.labels)
            # strengths on the outer side, where the path does not run
            place, shift = {"ha": "left" if point.x > 0 else "right", "va": "center"}, (6 if point.x > 0 else -6, 0)
            if len(text) > 12:
                # prompts cost little: below them there is room
                below = point.colour == GOOD
                place, shift = {"ha": "center", "va": "top" if below else "bottom"}, (0, -7 if below else 6)
            axes.annotate(
                text, (point.x, point.y), shift, textcoords="offset points", color=point.colour, fontsize=8, **place
            )
        axes.set_xlabel(f"effect: {measure_words(sweep.measure or JUDGED)} minus unsteered", loc="left")
        axes.grid(axis="both")

    return draw


_MARKS: dict[str, dict[str, Any]] = {
    "random": {"marker": "o", "markersize": 3.6, "markeredgewidth": 0, "alpha": 0.55},
    "shuffled": {"marker": "D", "markersize": 4.2, "markerfacecolor": "none"},
    "elsewhere": {"marker": "o", "markersize": 4.2, "markerfacecolor": "none", "alpha": 0.7},
    "vector": {"marker": "o", "markersize": 6, "markeredgewidth": 0},
    "prompt": {"marker": "s", "markersize": 5.5, "markeredgewidth": 0},
}


def _merged(axes: Any, rows: pl.DataFrame, column: str) -> list[_Point]:
    """Labels of points; those that would print over one another share one."""
    place = axes.transData.transform
    box = axes.transAxes.transform([(0, 0), (1, 1)])
    found: list[_Point] = []
    for row in rows.iter_rows(named=True):
        x, y, colour = row["effect"], row[column], GOOD if row["role"] == "prompt" else INK
        here = place((x, y))
        near = next(
            (
                point
                for point in found
                if point.colour == colour
                and (abs(place((point.x, point.y)) - here) < (0.075, 0.055) * (box[1] - box[0])).all()
            ),
            None,
        )
        if near is None:
            found.append(_Point(x, y, [row["label"]], colour))
        else:
            near.labels.append(row["label"])
    return found
