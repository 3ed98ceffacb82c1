"""Goal space drawn: asked and got side by side, on the same samples and the same scale."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import polars as pl

from steer_core.explorer.space import GRID, Flow
from steer_core.reports.drawing import CELL, CONTROL, INK, Figure, Panel
from steer_core.reports.drawing import GRID as LINES
from steer_core.reports.numbers import number, plural, slug_words


def draw_flow(found: Flow) -> Figure:
    """Two panels: where samples were asked to go, and where they went."""
    title = f"{slug_words(found.x)} and {slug_words(found.y)}"
    if not found.n:
        return Figure("space", title, "", (), found.single, "No sample with these filters has a known place.")
    panels = tuple(
        Panel(f"{what}, mean length {number(length)}", _draw(found, end, colour), 5.0, 4.8)
        for what, end, colour, length in (
            ("asked", "t", CONTROL, found.shares[0]),
            ("got", "1", CELL, found.shares[1]),
        )
    )
    alt = f"Arrows from start to end, {plural(found.n, 'sample')}; thick: means of {GRID}×{GRID} cells of starts"
    return Figure("space", title, alt, panels, found.mean)


def _draw(found: Flow, end: str, colour: str) -> Callable[[Any], None]:
    def draw(axes: Any) -> None:
        from matplotlib.collections import LineCollection

        for edge in range(1, GRID):
            axes.axvline(edge / GRID, color=LINES, linewidth=0.7)
            axes.axhline(edge / GRID, color=LINES, linewidth=0.7)
        ends = [[(r["x0"], r["y0"]), (r[f"x{end}"], r[f"y{end}"])] for r in found.single.iter_rows(named=True)]
        axes.add_collection(LineCollection(ends, colors=colour, alpha=0.12, linewidths=0.8))
        for row in found.mean.iter_rows(named=True):
            arrow = {
                "arrowstyle": "-|>,head_width=0.2,head_length=0.4",
                "color": colour,
                "lw": 1.7,
                "shrinkA": 0,
                "shrinkB": 0,
            }
            axes.annotate("", (row[f"x{end}"], row[f"y{end}"]), (row["x0"], row["y0"]), arrowprops=arrow)
            axes.plot([row["x0"]], [row["y0"]], "o", color=INK, markersize=2.4)
        axes.set(
            xlim=(-0.02, 1.02),
            ylim=(-0.02, 1.02),
            aspect="equal",
            xlabel=slug_words(found.x),
            ylabel=slug_words(found.y),
        )
        axes.set_xticks([0, 0.5, 1], ["0", ".5", "1"])
        axes.set_yticks([0, 0.5, 1], ["0", ".5", "1"])

    return draw


@dataclass(frozen=True)
class Mover:
    """A dot that moves; places in hundredths of the goal space, upward is negative, as in SVG.

    Attributes:
        x: where it starts.
        y: likewise.
        dx: how far it goes.
        dy: likewise.
        mean: whether it stands for the mean of a cell of starts.
    """

    x: float
    y: float
    dx: float
    dy: float
    mean: bool


@dataclass(frozen=True)
class Moving:
    """One of two pictures that move in step.

    Attributes:
        what: `asked` or `got`.
        length: mean length of the moves.
        movers: single samples first, means above them.
    """

    what: str
    length: float
    movers: tuple[Mover, ...]


def moving(found: Flow) -> tuple[Moving, ...]:
    """The moves of `draw_flow`, the same samples and means, as dots that can be set going; none without samples."""
    if not found.n:
        return ()
    return tuple(
        Moving(what, length, (*_movers(found.single, end, False), *_movers(found.mean, end, True)))
        for what, end, length in (("asked", "t", found.shares[0]), ("got", "1", found.shares[1]))
    )


def _movers(rows: pl.DataFrame, end: str, mean: bool) -> list[Mover]:
    return [
        Mover(
            round(100 * r["x0"], 1), round(-100 * r["y0"], 1), round(100 * (r[f"x{end}"] - r["x0"]), 1),
            round(-100 * (r[f"y{end}"] - r["y0"]), 1), mean,
        )
        for r in rows.iter_rows(named=True)
    ]  # fmt: skip
