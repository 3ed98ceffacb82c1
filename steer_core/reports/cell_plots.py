"""The figures of a cell's page. Each is made from published tables and carries the rows that it draws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl

from steer_core.reports.drawing import CELL, CONTROL, DOWN, GRID, INK, MUTED, Figure, Panel, interval_line, thin
from steer_core.reports.headline import Headline
from steer_core.reports.inputs import CellTables
from steer_core.reports.numbers import number, signed, slug_words

_NOTHING = "Nothing to draw: no request has a complete case."


def headline_figure(tables: CellTables, found: Headline) -> Figure:
    """Mean error of the cell and of its controls, failures at their worst, and the paired differences."""
    rows: list[dict[str, Any]] = []
    for label, one in (
        (tables.method, found.error_worst),
        (f"{tables.method}, complete cases", found.error if found.n_failed else None),
    ):
        if one is not None and one.value is not None:
            rows.append(
                {"panel": "mean", "own": True, "label": label, "value": one.value, "low": one.low, "high": one.high}
            )
    held = [c for c in found.contrasts if c.reading == "worst" and c.control_value is not None]
    rows += [
        {
            "panel": "mean",
            "own": False,
            "label": _control_label(c.control),
            "value": c.control_value,
            "low": None,
            "high": None,
        }
        for c in held
    ]
    rows += [
        {
            "panel": "difference",
            "own": True,
            "label": f"to {_control_label(c.control)}",
            "value": c.difference,
            "low": c.low,
            "high": c.high,
        }
        for c in held
    ]
    columns = {
        "panel": pl.Utf8,
        "own": pl.Boolean,
        "label": pl.Utf8,
        "value": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
    }
    table = pl.DataFrame(rows, schema=columns)
    panels = []
    means = table.filter(pl.col("panel") == "mean")
    if means.height:
        panels.append(Panel("Mean steering error", _intervals(means), 4.6, 0.85 + 0.36 * means.height))
    differences = table.filter(pl.col("panel") == "difference", pl.col("value").is_not_null())
    if differences.height:
        draw = _intervals(differences, zero=True)
        panels.append(Panel("Paired difference (left of 0 is better)", draw, 4.6, 0.85 + 0.36 * means.height))
    alt = "Dots are means, bars 95 percent intervals clustered by source text"
    note = "" if panels else _NOTHING
    return Figure("headline", "Steering error beside its controls", alt, tuple(panels), table, note)


def _control_label(control: str) -> str:
    return "other requests" if control == "permuted" else control


def _intervals(rows: pl.DataFrame, zero: bool = False) -> Callable[[Any], None]:
    def draw(axes: Any) -> None:
        labels = rows["label"].to_list()
        for y, row in enumerate(rows.iter_rows(named=True)):
            colour = CELL if row["own"] else CONTROL
            interval_line(axes, y, row["value"], row["low"], row["high"], colour)
            text = signed(row["value"], 3) if zero else number(row["value"], 3)
            axes.annotate(text, (row["value"], y), (0, 7), textcoords="offset points", ha="center", fontsize=8)
        ends = [v for name in ("value", "low", "high") for v in rows[name].to_list() if v is not None]
        pad = 0.12 * max(max(ends) - min(*ends, 0.0), 0.05)
        axes.set_xlim(min(*ends, 0.0) - pad * (1 if zero else 0.2), max(*ends, 0.0) + pad)
        axes.set_yticks(range(len(labels)), labels, color=INK, fontsize=8.5)
        axes.set_ylim(len(labels) - 0.5, -0.7)
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
        axes.spines["bottom"].set_visible(False)
        if zero:
            axes.axvline(0, color=INK, linewidth=1)

    return draw


def requested_vs_got(tables: CellTables) -> Figure:
    """One panel a goal: the move that was made against the move that was asked, where the goal was active."""
    table = (
        tables.movements.filter(pl.col("z_star").is_not_null(), pl.col("z_hat").is_not_null())
        .with_columns(asked=pl.col("z_star") - pl.col("z0"), got=pl.col("z_hat") - pl.col("z0"))
        .select("request_id", "goal", "asked", "got")
    )
    slopes = _slopes(tables.side_effects)
    panels = []
    for goal in tables.axes:
        rows = table.filter(pl.col("goal") == goal)
        if rows.height:
            panels.append(Panel(slug_words(goal), _scatter(rows, slopes.get((goal, goal))), 2.6, 2.7))
    title = "Requested and got, goal by goal"
    alt = "Each dot is a request; the dashed diagonal is a perfect answer, the solid line the slope within texts"
    note = "" if panels else "Nothing to draw: no request with a target has a complete case."
    return Figure("requested_vs_got", title, alt, tuple(panels), table, note)


def _slopes(side_effects: pl.DataFrame) -> dict[tuple[str, str], float]:
    rows = side_effects.filter(pl.col("slope").is_not_null())
    return {(r["requested_goal"], r["observed_goal"]): r["slope"] for r in rows.iter_rows(named=True)}


def _scatter(rows: pl.DataFrame, slope: float | None) -> Callable[[Any], None]:
    def draw(axes: Any) -> None:
        shown = thin(rows)
        edge = 1.08 * max(0.2, *(float(np.abs(rows[name].to_numpy()).max()) for name in ("asked", "got")))
        axes.axhline(0, color=GRID, linewidth=1)
        axes.axvline(0, color=GRID, linewidth=1)
        axes.plot([-edge, edge], [-edge, edge], color=MUTED, linewidth=1, linestyle=(0, (3, 3)))
        axes.plot(shown["asked"], shown["got"], "o", color=CELL, alpha=0.35, markersize=3.2, markeredgewidth=0)
        if slope is not None:
            reach = float(np.abs(rows["asked"].to_numpy()).max())
            # through the middle of the dots: the slope is within texts and says nothing of where they lie
            x0, y0 = (float(rows[name].to_numpy().mean()) for name in ("asked", "got"))
            ends = np.array([-reach, reach])
            axes.plot(ends, y0 + slope * (ends - x0), color=DOWN, linewidth=2)
            text = f"slope {number(slope)}"
            axes.text(0.97, 0.04, text, color=DOWN, ha="right", transform=axes.transAxes, fontsize=9)
        axes.set(xlim=(-edge, edge), ylim=(-edge, edge), xlabel="asked", ylabel="got", aspect="equal")
        ticks = [-0.5, 0, 0.5] if edge > 0.55 else [-0.2, 0, 0.2]
        axes.set_xticks(ticks, [signed(tick, 1) for tick in ticks])
        axes.set_yticks(ticks, [signed(tick, 1) for tick in ticks])

    return draw


def side_effects_figure(tables: CellTables) -> Figure:
    """Heat map of the side-effect matrix with its numbers: requested goals are rows, observed goals columns."""
    table = tables.side_effects.drop("probe")
    if not table["slope"].is_not_null().any():
        return Figure(
            "side_effects", "What else moves", "", (), table, "Nothing to draw: no complete case asks a goal to move."
        )
    axes = tables.axes
    panel = Panel("", _matrix(_slopes(table), axes), 1.9 + 0.82 * len(axes), 1.0 + 0.56 * len(axes))
    alt = "Rows are goals that were asked to move, columns what moved; 1 on the diagonal and 0 elsewhere is perfect"
    return Figure("side_effects", "What else moves", alt, (panel,), table)


def _matrix(slopes: dict[tuple[str, str], float], goals: Sequence[str]) -> Callable[[Any], None]:
    def draw(axes: Any) -> None:
        from matplotlib.patches import Rectangle

        for y, asked in enumerate(goals):
            for x, observed in enumerate(goals):
                slope = slopes.get((asked, observed))
                colour = CELL if (slope or 0) >= 0 else DOWN
                # opacity instead of a colour map, so that the cell reads on light and dark paper
                strength = 0.0 if slope is None else 0.62 * min(abs(slope), 1.0)
                corner = (x - 0.47, y - 0.46)
                axes.add_patch(Rectangle(corner, 0.94, 0.92, facecolor=colour, alpha=strength, linewidth=0))
                if asked == observed:
                    axes.add_patch(Rectangle(corner, 0.94, 0.92, fill=False, edgecolor=INK, linewidth=1.1))
                axes.text(x, y, signed(slope), ha="center", va="center", fontsize=9.5)
        names = [slug_words(goal).replace(" ", "\n") for goal in goals]
        axes.set_xticks(range(len(goals)), names)
        axes.set_yticks(range(len(goals)), [slug_words(goal) for goal in goals], color=INK)
        axes.set(xlim=(-0.5, len(goals) - 0.5), ylim=(len(goals) - 0.5, -0.5))
        axes.xaxis.tick_top()
        axes.xaxis.set_label_position("top")
        axes.set_xlabel("what moved, per unit asked", labelpad=9)
        axes.set_ylabel("what was asked")
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)

    return draw


def distributions(tables: CellTables) -> Figure:
    """Empirical distribution functions of the three metrics, beside copy and the other controls where known.

    Copy is drawn from its closed form: error |r|, miscalibration 1, orthogonality 0 wherever something was asked.
    """
    own = tables.steerability.filter(pl.col("error").is_not_null())
    sources: list[tuple[str, pl.DataFrame]] = [(tables.method, own)]
    rewrite = tables.control_steerability.get("rewrite")
    if rewrite is not None and tables.method != "rewrite":
        sources.append(("rewrite", rewrite.filter(pl.col("error").is_not_null())))
    metrics = ("error", "miscalibration", "orthogonality")
    parts = [
        rows.select(pl.lit(name).alias("cell"), pl.lit(metric).alias("metric"), pl.col(metric).alias("value"))
        for name, rows in sources
        for metric in metrics
    ]
    copy = own.select(pl.lit("copy").alias("cell"), pl.lit("error").alias("metric"), pl.col("requested").alias("value"))
    table = pl.concat([*parts, copy]) if tables.method != "copy" else pl.concat(parts)
    table = table.filter(pl.col("value").is_not_null()).sort("metric", "cell", "value")
    # where nothing was asked, doing nothing is not miscalibrated
    asked = bool((own["requested"] > 0).any())
    copy_at = {"miscalibration": 1.0 if asked else 0.0, "orthogonality": 0.0} if tables.method != "copy" else {}
    panels = tuple(
        Panel(
            f"Steering {metric}" if metric == "error" else metric.capitalize(),
            _ecdf(table, metric, tables.method, copy_at.get(metric)),
        )
        for metric in metrics
    )
    alt = "Share of requests at or below each value; further left is better"
    note = "" if own.height else _NOTHING
    return Figure("distributions", "How the metrics spread", alt, panels if own.height else (), table, note)


def _ecdf(table: pl.DataFrame, metric: str, method: str, copy_at: float | None) -> Callable[[Any], None]:
    def draw(axes: Any) -> None:
        styles = {"copy": (CONTROL, (0, (4, 2))), "rewrite": (CONTROL, "solid")}
        rows = table.filter(pl.col("metric") == metric)
        names = [name for name in (method, "rewrite", "copy") if rows.filter(pl.col("cell") == name).height]
        for place, name in enumerate(dict.fromkeys(names)):
            values = np.sort(rows.filter(pl.col("cell") == name)["value"].to_numpy())
            share = np.arange(1, len(values) + 1) / len(values)
            keep = np.unique(np.linspace(0, len(values) - 1, 200).astype(int))
            colour, dashes = (CELL, "solid") if name == method else styles[name]
            axes.step(values[keep], share[keep], where="post", color=colour, linestyle=dashes, linewidth=2)
            # labels at different heights, so that near curves do not print over one another
            level = (0.5, 0.72, 0.28)[place]
            at = float(values[min(int(level * len(values)), len(values) - 1)])
            axes.annotate(
                name,
                (at, level),
                (6, -3),
                textcoords="offset points",
                color=colour if name == method else MUTED,
                fontsize=8.5,
                va="top",
            )
        top = float(np.quantile(rows["value"].to_numpy(), 0.99 if metric == "miscalibration" else 1.0))
        if copy_at is not None:
            axes.axvline(copy_at, color=CONTROL, linewidth=1.6, linestyle=(0, (4, 2)))
            level = 0.06 if copy_at > 0 else 0.93
            axes.annotate("copy", (copy_at, level), (5, 0), textcoords="offset points", color=MUTED, fontsize=8.5)
            top = max(top, 1.15 if metric == "miscalibration" else 1.0)
        right = 1.06 * max(top, 0.05)
        axes.set(xlim=(-0.03 * right, right), ylim=(0, 1.02), ylabel="share of requests")
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1.0], ["0", "25 %", "50 %", "75 %", "100 %"])
        axes.grid(axis="both")

    return draw


def meaning_figure(tables: CellTables) -> Figure:
    """Meaning kept against steering error: the upper left corner is where a method wants to be."""
    table = tables.steerability.select("request_id", "error", "meaning_content", "requested").filter(
        pl.col("error").is_not_null(), pl.col("meaning_content").is_not_null()
    )

    def draw(axes: Any) -> None:
        shown = thin(table)
        dots = {"color": CELL, "alpha": 0.3, "markersize": 3.6, "markeredgewidth": 0}
        axes.plot(shown["error"], shown["meaning_content"], "o", **dots)
        x, y = table["error"].to_numpy().mean(), table["meaning_content"].to_numpy().mean()
        axes.plot([x], [y], "+", color=INK, markersize=13, markeredgewidth=2)
        axes.annotate("mean", (x, y), (8, 7), textcoords="offset points", fontsize=8.5)
        copy = table["requested"].to_numpy().mean()
        axes.plot([copy], [1.0], "D", color=CONTROL, markersize=6.5)
        axes.annotate("copy", (copy, 1.0), (8, -3.5), textcoords="offset points", color=MUTED, fontsize=8.5)
        right = 1.08 * max(float(table["error"].to_numpy().max()), copy, 0.1)
        axes.set(xlim=(0, right), ylim=(-0.02, 1.06), xlabel="steering error", ylabel="meaning kept (content-word F1)")
        axes.grid(axis="both")

    panels = (Panel("", draw, 4.6, 3.4),) if table.height else ()
    alt = "Each dot is a request: meaning kept against steering error"
    return Figure("meaning", "What the steering costs in meaning", alt, panels, table, "" if panels else _NOTHING)


def overshoot_figure(goals: pl.DataFrame) -> Figure:
    """Share of outputs that left the goal space, goal by goal: below its lower bound, above its upper one.

    Args:
        goals: rows of `per_goal.per_goal_table`.
    """
    table = goals.select("goal", "share_below", "share_above", "n_measured")
    measured = table.filter(pl.col("n_measured") > 0)

    def draw(axes: Any) -> None:
        edge = max(0.05, *(float(v) for name in ("share_below", "share_above") for v in measured[name])) * 1.45
        for y, row in enumerate(measured.iter_rows(named=True)):
            axes.barh([y], [-row["share_below"]], color=DOWN, height=0.5)
            axes.barh([y], [row["share_above"]], color=CELL, height=0.5)
            for value, sign in ((row["share_below"], -1), (row["share_above"], 1)):
                text = f"{number(100 * value, 1)} %"
                place = {"ha": "left" if sign > 0 else "right", "va": "center", "fontsize": 8}
                axes.annotate(text, (sign * value, y), (4 * sign, 0), textcoords="offset points", **place)
        axes.axvline(0, color=INK, linewidth=1)
        axes.set_yticks(range(measured.height), [slug_words(goal) for goal in measured["goal"]], color=INK)
        axes.set(xlim=(-edge, edge), ylim=(measured.height - 0.4, -0.9))
        axes.set_xticks([])
        for text, sign in (("below the bounds", -1), ("above the bounds", 1)):
            style = {"ha": "left" if sign > 0 else "right", "fontsize": 8, "color": MUTED}
            axes.annotate(text, (0, -0.55), (6 * sign, 0), textcoords="offset points", **style)
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)

    panels = (Panel("", draw, 4.6, 0.7 + 0.38 * measured.height),) if measured.height else ()
    alt = "Bars give the share of outputs beyond each bound"
    return Figure("overshoot", "Outputs beyond the goal space", alt, panels, table, "" if panels else _NOTHING)
