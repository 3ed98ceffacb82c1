"""Curves of a sweep: how a measure goes with strength, beside the unsteered arm, the controls and the prompts."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import polars as pl

from steer_core.evaluation.behaviors.findings import NEUTRAL
from steer_core.evaluation.behaviors.side_effects import JUDGED
from steer_core.reports.drawing import CELL, CONTROL, DOWN, GOOD, INK, MUTED, Figure, Panel
from steer_core.reports.numbers import number, signed, slug_words
from steer_core.reports.sweeps import Sweep, layer_words, measure_words, position_words, strength_words, unit_words

#: Measures of scored items, in the order of their panels.
_SCORED = ("p_positive", "pair_mass", "propensity", "propensity_per_token", "refused")
#: Measures whose axis is a share.
SHARES = frozenset({"p_positive", "pair_mass", "accuracy", "refused", "failed", "truncated"})
#: Strengths up to which a heat map has room for its numbers.
_MOST_NUMBERS = 12
#: Sets of items that get a panel at most.
_MOST_GROUPS = 3
_ALT = (
    "The line is the vector with its 95 percent band, grey marks are controls, green levels prompts, dashed the "
    "unsteered model"
)
_COLUMNS = ("role", "layers", "positions", "seed", "strength", "unit", "group", "measure", "system")
_FIGURES = ("mean", "low", "high", "difference", "difference_low", "difference_high", "missing", "n", "n_clusters")

Draw = Callable[[Any], None]


def rows_behind(sweep: Sweep, measures: Sequence[str]) -> pl.DataFrame:
    """The rows of the summary that a figure of these measures draws."""
    wanted = pl.col("measure").is_in(list(measures))
    return sweep.summary.filter(wanted).select("arm_id", "behavior", *_COLUMNS, *_FIGURES)


def strength_figure(sweep: Sweep) -> Figure:
    """Judged score against strength, one panel a set of items: the curve, the controls at its ends, the prompts."""
    panels = []
    groups = [g for g in sweep.groups(JUDGED) if g != NEUTRAL][:_MOST_GROUPS]
    for group in groups:
        width, height = (5.6, 3.4) if len(groups) == 1 else (4.9, 3.2)
        title = "" if len(groups) == 1 else f"{slug_words(group)} items"
        if sweep.curve(JUDGED, group).height:
            panels.append(Panel(title, curve(sweep, JUDGED, group, limits=sweep.scale), width, height))
    note = "" if panels else f"Nothing to draw: no open answer of {sweep.behavior} has a verdict at a strength."
    name, title = f"strength_{sweep.behavior}", f"{slug_words(sweep.behavior)}: judged score against strength"
    return Figure(name, title, _ALT, tuple(panels), rows_behind(sweep, [JUDGED]), note)


def propensity_figure(sweep: Sweep) -> Figure:
    """What the probabilities of given answers say, against strength: no answer is written and nobody judges."""
    panels = []
    for measure in _SCORED:
        for group in [g for g in sweep.groups(measure) if g != NEUTRAL][:_MOST_GROUPS]:
            means = sweep.curve(measure, group)["mean"].drop_nulls()
            # a refusal rate of 0 everywhere is told by its absence
            if len(means) and (measure != "refused" or means.max()):
                where = "" if group == sweep.group else f", {slug_words(group)}"
                limits = (0.0, 1.0) if measure in SHARES else None
                draw = curve(sweep, measure, group, limits, titled=True)
                panels.append(Panel(f"{measure_words(measure)}{where}", draw, 4.9, 2.9))
    note = "" if panels else f"Nothing to draw: {sweep.behavior} has no items with two answers to choose between."
    name, title = f"propensity_{sweep.behavior}", f"{slug_words(sweep.behavior)}: propensity against strength"
    return Figure(name, title, _ALT, tuple(panels), rows_behind(sweep, _SCORED), note)


def curve(
    sweep: Sweep,
    measure: str,
    group: str,
    limits: tuple[float, float] | None = None,
    *,
    small: bool = False,
    titled: bool = False,
    log: bool = False,
) -> Draw:
    """Draws one measure against strength.

    Args:
        sweep: the sweep.
        measure: measure.
        group: set of items.
        limits: ends of the scale; None fits the data.
        small: a panel of small multiples: levels without labels.
        titled: the title of the panel names the measure, so that the axis need not.
        log: logarithmic scale.
    """
    main = sweep.curve(measure, group).filter(pl.col("mean").is_not_null())
    others = sweep.other_seeds(measure, group).filter(pl.col("mean").is_not_null())
    off = sweep.unsteered(measure, group)
    prompts = [(label, row["mean"]) for label, row in sweep.prompts(measure, group) if row["mean"] is not None]
    digits = sweep.digits(measure)

    def draw(axes: Any) -> None:
        left, right = _ends(main["strength"])
        span = right - left
        for _, seed in others.group_by("seed", maintain_order=True):
            axes.plot(seed["strength"], seed["mean"], color=CELL, linewidth=1, alpha=0.4)
        drawn = _controls(axes, sweep, measure, group, span, small)
        _band(axes, main)
        axes.plot(main["strength"], main["mean"], "o-", color=CELL, linewidth=2, markersize=3 if small else 5)
        levels = [(mean, f"{label} {number(mean, digits)}", GOOD) for label, mean in prompts]
        for mean, _, _ in levels:
            # beside the axes: a prompt has no strength
            reach = [1.012, 1.05 if small else 1.035]
            line = {"linewidth": 2.6, "solid_capstyle": "butt", "clip_on": False}
            axes.plot(reach, [mean, mean], color=GOOD, transform=axes.get_yaxis_transform(), **line)
        if off is not None and off["mean"] is not None:
            axes.axhline(off["mean"], color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)
            levels.append((off["mean"], f"unsteered {number(off['mean'], digits)}", MUTED))
        seen = [*drawn, *(level for level, _, _ in levels)]
        bottom, top = limits or _limits([*_column(main, "mean", "low", "high"), *seen], log)
        if log:
            axes.set_yscale("log")
            _log_ticks(axes, bottom, top)
        pad = 0.0 if log else 0.04 * (top - bottom)
        axes.set(ylim=(bottom - pad, top + pad), xlim=(left - 0.06 * span, right + 0.06 * span))
        if not small:
            axes.set_ylabel("" if titled else measure_words(measure))
            axes.set_xlabel(unit_words(sweep.unit), loc="left")
            _labels(axes, levels, bottom, top)
        _strength_ticks(axes, main["strength"].to_list(), sweep.unit, small)
        axes.grid(axis="y")

    return draw


def _controls(axes: Any, sweep: Sweep, measure: str, group: str, span: float, small: bool) -> list[float]:
    """Grey marks at the strengths of the controls; returns their means."""
    drawn: list[float] = []
    styles = {
        "random": {"marker": "o", "markersize": 2.4 if small else 3.6, "markeredgewidth": 0, "alpha": 0.55},
        "shuffled": {"marker": "D", "markersize": 2.6 if small else 4.2, "markerfacecolor": "none"},
    }
    for role, style in styles.items():
        rows = sweep.control(role, measure, group).filter(pl.col("mean").is_not_null())
        # spread sideways by the golden ratio, so that equal means stay apart and every run draws the same
        sides = [((place * 0.618034) % 1.0 - 0.5) * 0.05 * span for place in range(rows.height)]
        at = [strength + side for strength, side in zip(rows["strength"], sides, strict=True)]
        axes.plot(at, rows["mean"], linestyle="none", color=CONTROL, **style)
        drawn += rows["mean"].to_list()
    return drawn


def _band(axes: Any, rows: pl.DataFrame) -> None:
    known = rows.filter(pl.col("low").is_not_null(), pl.col("high").is_not_null())
    if known.height > 1:
        axes.fill_between(known["strength"], known["low"], known["high"], color=CELL, alpha=0.17, linewidth=0)
    for row in known.iter_rows(named=True) if known.height == 1 else ():
        axes.plot([row["strength"]] * 2, [row["low"], row["high"]], color=CELL, linewidth=2, alpha=0.5)


def _labels(axes: Any, levels: list[tuple[float, str, str]], bottom: float, top: float) -> None:
    """Labels of levels beside the axes, moved apart where they would print over one another."""
    gap, least = 0.085 * (top - bottom), bottom
    room = top - gap * (len(levels) - 1)
    for place, (level, text, colour) in enumerate(sorted(levels)):
        y = min(max(level, least), room + gap * place)
        beside = {"xycoords": axes.get_yaxis_transform(), "va": "center", "annotation_clip": False}
        axes.annotate(text, (1.05, y), color=colour, fontsize=8.5, **beside)
        least = y + gap


def _ends(strengths: pl.Series) -> tuple[float, float]:
    values = strengths.to_list() or [0.0]
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 1.0, high + 1.0)


def _column(rows: pl.DataFrame, *names: str) -> list[float]:
    return [v for name in names for v in rows[name].to_list() if v is not None]


def _limits(values: list[float], log: bool = False) -> tuple[float, float]:
    if log:
        # an interval may reach below 0, where a logarithm has nothing to show
        shown = [v for v in values if v > 0.0]
        return min(shown, default=0.1) / 1.25, max(shown, default=1.0) * 1.25
    low, high = min(values, default=0.0), max(values, default=1.0)
    pad = 0.06 * (high - low) or 0.5 * max(abs(high), 0.1)
    # a measure that cannot be negative has no ticks below 0
    return (max(0.0, low - pad) if low >= 0 else low - pad), high + pad


def _log_ticks(axes: Any, bottom: float, top: float) -> None:
    from matplotlib.ticker import NullFormatter, NullLocator

    steps = [m * 10.0**e for e in range(-3, 9) for m in (1, 2, 5)]
    ticks = [t for t in steps if bottom <= t <= top]
    while len(ticks) > 5:
        ticks = ticks[::2]
    axes.set_yticks(ticks, [f"{t:g}" for t in ticks])
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_formatter(NullFormatter())


def _strength_ticks(axes: Any, strengths: list[float], unit: str | None, small: bool) -> None:
    """Ticks at the strengths that were run, thinned to what fits; the ends always."""
    found = thinned(sorted(set(strengths)), 3 if small else 9)
    axes.set_xticks(found, [strength_words(s, unit) for s in found])


def thinned(strengths: Sequence[float], most: int) -> list[float]:
    """The strengths (rising), or about `most` of them that are not too close to one another; the ends always."""
    if len(strengths) <= most:
        return list(strengths)
    low, high = strengths[0], strengths[-1]
    room = 0.999 * (high - low) / (most - 1)
    kept = [low]
    for value in strengths[1:-1]:
        if value - kept[-1] >= room and high - value >= room:
            kept.append(value)
    return [*kept, high]


def settings_figure(sweep: Sweep) -> Figure:
    """Heat map of the effect, settings by strengths: where else the vector was applied, and with other seeds."""
    measure = sweep.measure or JUDGED
    rows = sweep.summary.filter(
        pl.col("role") == "vector", pl.col("measure") == measure, pl.col("group") == sweep.group
    )
    table = rows.select("layers", "site", "positions", "seed", "strength", "unit", "measure", "main", *_FIGURES)
    kinds = table.select("layers", "site", "positions", "seed").unique().rows()
    settings = sorted(kinds, key=lambda s: (len(json.loads(s[0])) > 1, json.loads(s[0]), *map(str, s[1:3]), s[3]))
    note = "" if len(settings) > 1 else "Nothing to draw: the vector was swept at one layer and one set of positions."
    strengths = sorted(set(table["strength"].drop_nulls()))
    panels: tuple[Panel, ...] = ()
    if len(settings) > 1:
        draw = _heat(sweep, table, settings, strengths, sweep.digits(measure))
        wide = 0.56 if len(strengths) <= _MOST_NUMBERS else 0.26
        panels = (Panel("", draw, 1.9 + wide * len(strengths), 0.95 + 0.36 * len(settings)),)
    alt = "Rows are settings, columns strengths; each cell is the difference to the unsteered model"
    title = f"{slug_words(sweep.behavior)}: effect by layer, positions and strength"
    return Figure(f"settings_{sweep.behavior}", title, alt, panels, table, note)


def _heat(
    sweep: Sweep, table: pl.DataFrame, settings: Sequence[tuple[Any, ...]], strengths: Sequence[float], digits: int
) -> Draw:
    by = {(r["layers"], r["site"], r["positions"], r["seed"], r["strength"]): r for r in table.iter_rows(named=True)}
    most = max([abs(r["difference"]) for r in by.values() if r["difference"] is not None], default=0.0) or 1.0
    several = [len({s[i] for s in settings}) > 1 for i in range(4)]

    def draw(axes: Any) -> None:
        from matplotlib.patches import Rectangle

        for y, setting in enumerate(settings):
            for x, strength in enumerate(strengths):
                row = by.get((*setting, strength))
                if row is None:
                    continue
                difference = row["difference"]
                colour, corner = (CELL if (difference or 0.0) >= 0 else DOWN), (x - 0.47, y - 0.45)
                alpha = 0.0 if difference is None else 0.62 * abs(difference) / most
                axes.add_patch(Rectangle(corner, 0.94, 0.9, facecolor=colour, alpha=alpha, linewidth=0))
                if row["main"]:
                    axes.add_patch(Rectangle(corner, 0.94, 0.9, fill=False, edgecolor=INK, linewidth=0.9))
                if len(strengths) <= _MOST_NUMBERS:
                    axes.text(x, y, signed(difference, digits), ha="center", va="center", fontsize=8)
        ticks = thinned(strengths, _MOST_NUMBERS)
        axes.set_xticks([strengths.index(s) for s in ticks], [strength_words(s, sweep.unit) for s in ticks])
        axes.set_yticks(range(len(settings)), [_setting_words(s, several) for s in settings], color=INK)
        axes.set(xlim=(-0.5, len(strengths) - 0.5), ylim=(len(settings) - 0.5, -0.5))
        axes.xaxis.tick_top()
        axes.xaxis.set_label_position("top")
        axes.set_xlabel(unit_words(sweep.unit), labelpad=8, loc="left")
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)

    return draw


def _setting_words(setting: tuple[Any, ...], several: Sequence[bool]) -> str:
    """A setting by what tells it apart from the others; the layer always."""
    layers, site, positions, seed = setting
    words = [layer_words(layers)]
    words += [str(site)] if several[1] else []
    words += [position_words(positions)] if several[2] else []
    words += [f"seed {seed}"] if several[3] else []
    return ", ".join(words)
