"""Flow through goal space: where texts went when one goal was asked to move and another was not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl

from steer_core.reports.drawing import CELL, DOWN, GRID, INK, Figure, Panel, thin
from steer_core.reports.inputs import CellTables
from steer_core.reports.numbers import slug_words

#: Cells along one axis of the coarse grid that moves are averaged on.
GRID_CELLS = 3
#: Requests that a mean arrow stands for at least.
_FEWEST = 2
#: Single arrows drawn a panel, as a backdrop to the mean ones.
_ARROWS = 90


def flow_pairs(tables: CellTables) -> list[tuple[str, str]]:
    """For each goal, the one that it drags along most: the largest side effect by |slope|.

    Ties and undefined slopes go by the order of the goal space; a space of one goal has no pairs.
    """
    slopes = {
        (row["requested_goal"], row["observed_goal"]): abs(row["slope"] or 0.0)
        for row in tables.side_effects.iter_rows(named=True)
    }
    axes = tables.axes
    pairs = []
    for asked in axes:
        others = [goal for goal in axes if goal != asked]
        if others:
            pairs.append((asked, max(others, key=lambda goal: slopes.get((asked, goal), 0.0))))
    return pairs


def moves_of_pair(movements: pl.DataFrame, asked: str, unasked: str) -> pl.DataFrame:
    """Requests where the first goal was asked to move and the second was not.

    Returns:
        One row a request: `x0`, `y0` start, `x1`, `y1` where it went, `x_star` the target (its other coordinate is
        `y0`: to stay), `up` whether the move asked is upward.
    """
    x = movements.filter(pl.col("goal") == asked, pl.col("z_star").is_not_null(), pl.col("z_hat").is_not_null())
    y = movements.filter(pl.col("goal") == unasked, pl.col("z_star").is_null(), pl.col("z_hat").is_not_null())
    return (
        x.select("request_id", x0="z0", x1="z_hat", x_star="z_star")
        .join(y.select("request_id", y0="z0", y1="z_hat"), on="request_id", maintain_order="left")
        .with_columns(up=pl.col("x_star") > pl.col("x0"))
    )


def mean_flow(moves: pl.DataFrame) -> pl.DataFrame:
    """Mean start, end and target on a coarse grid of starts, for moves up and down apart: `n` requests a row."""
    scaled = pl.col("x0", "y0") * GRID_CELLS
    # a start of exactly 1 belongs to the last cell
    cells = scaled.floor().clip(0, GRID_CELLS - 1).cast(pl.Int64).name.prefix("cell_")
    means = [pl.col(name).mean() for name in ("x0", "y0", "x1", "y1", "x_star")]
    keys = ("up", "cell_x0", "cell_y0")
    return moves.with_columns(cells).group_by(keys).agg(*means, n=pl.len()).sort(keys)


def flow_figure(tables: CellTables) -> Figure:
    """One panel a pair of goals: mean moves on a coarse grid over a backdrop of single ones."""
    panels, kept = [], []
    for asked, unasked in flow_pairs(tables):
        moves = moves_of_pair(tables.movements, asked, unasked)
        if moves.height:
            title = f"{slug_words(asked)} asked, {slug_words(unasked)} not"
            panels.append(Panel(title, _arrows(moves, asked, unasked), 4.6, 4.4))
            kept.append(moves.select(pl.lit(asked).alias("asked"), pl.lit(unasked).alias("unasked"), pl.all()))
    empty = moves_of_pair(tables.movements.clear(), "", "").select(
        pl.lit("").alias("asked"), pl.lit("").alias("unasked"), pl.all()
    )
    alt = "Arrows run from start to result; diamonds mark where they should have ended"
    note = "" if panels else "Nothing to draw: no complete case asks one goal to move and leaves another alone."
    table = pl.concat(kept) if kept else empty.clear()
    return Figure("flow", "Flow through the goal space", alt, tuple(panels), table, note)


def _arrows(moves: pl.DataFrame, asked: str, unasked: str) -> Callable[[Any], None]:
    def draw(axes: Any) -> None:
        from matplotlib.collections import LineCollection

        for edge in range(1, GRID_CELLS):
            axes.axvline(edge / GRID_CELLS, color=GRID, linewidth=0.8)
            axes.axhline(edge / GRID_CELLS, color=GRID, linewidth=0.8)
        shown = thin(moves, _ARROWS)
        ends = [[(row["x0"], row["y0"]), (row["x1"], row["y1"])] for row in shown.iter_rows(named=True)]
        colours = [CELL if up else DOWN for up in shown["up"]]
        axes.add_collection(LineCollection(ends, colors=colours, alpha=0.13, linewidths=0.9))
        for row in mean_flow(moves).filter(pl.col("n") >= _FEWEST).iter_rows(named=True):
            colour = CELL if row["up"] else DOWN
            arrow = {"arrowstyle": "-|>,head_width=0.22,head_length=0.42", "color": colour, "lw": 1.7}
            arrow |= {"shrinkA": 0, "shrinkB": 0}
            axes.annotate("", (row["x1"], row["y1"]), (row["x0"], row["y0"]), arrowprops=arrow)
            axes.plot([row["x0"]], [row["y0"]], "o", color=INK, markersize=2.6)
            dots = {"color": colour, "alpha": 0.7, "linewidth": 1, "linestyle": (0, (1, 2.5))}
            axes.plot([row["x0"], row["x_star"]], [row["y0"], row["y0"]], **dots)
            axes.plot([row["x_star"]], [row["y0"]], "D", markersize=4.5, markerfacecolor="none", markeredgecolor=colour)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        axes.set(xlabel=f"{slug_words(asked)} (asked)", ylabel=f"{slug_words(unasked)} (not asked)")
        axes.set_xticks([0, 0.5, 1], ["0", ".5", "1"])
        axes.set_yticks([0, 0.5, 1], ["0", ".5", "1"])

    return draw
