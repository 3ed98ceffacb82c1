"""Panels to SVG and PNG: one palette, one type, no global state.

Colours are drawn as fixed hex values and handed to the page as CSS variables, so that one SVG reads well on paper, on
a light and on a dark screen. The numbers behind a figure travel with it as a table.
"""

from __future__ import annotations

import html
import io
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

#: Hex drawn by the plots -> CSS variable of the page. Blue, vermillion and green are Okabe & Ito's (2008).
INK, MUTED, GRID, PAPER = "#1b1f24", "#5f6772", "#dde1e6", "#fefefe"
CELL, DOWN, GOOD, CONTROL = "#0072b2", "#d55e00", "#009e73", "#8b8f97"
VARIABLES: Mapping[str, str] = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    PAPER: "--paper",
    CELL: "--blue",
    DOWN: "--orange",
    GOOD: "--green",
    CONTROL: "--grey",
}

#: Points, arrows or steps drawn a panel at most: beyond this a plot is ink, not information.
MOST_MARKS = 500

_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "steerworks",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.labelsize": 8.5,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
}


@dataclass(frozen=True)
class Panel:
    """One set of axes: a function that draws on it, and its size in inches."""

    title: str
    draw: Callable[[Any], None]
    width: float = 3.4
    height: float = 3.2


@dataclass(frozen=True)
class Figure:
    """Panels that answer one question, and the rows behind them.

    `panels` is empty where there is nothing to draw; `note` then says why.
    """

    name: str
    title: str
    alt: str
    panels: tuple[Panel, ...]
    table: pl.DataFrame
    note: str = ""


@dataclass(frozen=True)
class RenderedFigure:
    """A figure as one SVG a panel (to inline), one PNG still (empty without panels), and its table."""

    name: str
    title: str
    svgs: tuple[str, ...]
    png: bytes
    table: pl.DataFrame
    note: str


def render(figure: Figure) -> RenderedFigure:
    """Draws every panel once as SVG, and all of them together as a still."""
    import matplotlib

    with matplotlib.rc_context(_STYLE):
        svgs = tuple(_svg(figure, number, panel) for number, panel in enumerate(figure.panels))
        png = _png(figure.panels) if figure.panels else b""
    return RenderedFigure(figure.name, figure.title, svgs, png, figure.table, figure.note)


def _svg(figure: Figure, number: int, panel: Panel) -> str:
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(panel.width, panel.height), layout="constrained")
    FigureCanvasSVG(canvas)
    axes = canvas.add_subplot()
    axes.set_title(panel.title)
    panel.draw(axes)
    sink = io.StringIO()
    canvas.savefig(sink, format="svg", transparent=True)
    label = f"{figure.title}: {panel.title}. {figure.alt}" if panel.title else f"{figure.title}. {figure.alt}"
    return inline_svg(sink.getvalue(), f"{figure.name}-{number}", label, panel.width)


def inline_svg(svg: str, prefix: str, label: str, width: float) -> str:
    """A matplotlib SVG made fit to stand inside an HTML page.

    Args:
        svg: the file that matplotlib wrote.
        prefix: put before every id, so that ids stay unique on a page with many figures.
        label: alternative text.
        width: natural width in inches; the page shrinks it where there is less room.
    """
    body = svg[svg.index("<svg") :]
    # it holds the time of day, which would change the page on every run
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    # its rule is for `*` and would restyle the whole page
    body = re.sub(r"<style\b.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r"<!--.*?-->\s*", "", body, flags=re.DOTALL)
    body = body.replace("xlink:href=", "href=")
    body = re.sub(r'\bid="', f'id="{prefix}-', body)
    body = body.replace('href="#', f'href="#{prefix}-').replace("url(#", f"url(#{prefix}-")
    box = re.search(r'viewBox="([^"]+)"', body)
    if box is None:
        raise ValueError(f"figure {prefix!r}: the SVG has no viewBox, so it cannot be scaled to the page")
    head = (
        f'<svg class="fig" viewBox="{box[1]}" role="img" aria-label="{html.escape(label)}" '
        f'style="--w:{round(width * 96)}px">'
    )
    body = re.sub(r"^<svg\b[^>]*>", lambda _: head, body, count=1)
    for colour, variable in VARIABLES.items():
        body = body.replace(colour, f"var({variable})")
    return re.sub(r"\n\s*", "\n", body).strip()


def _png(panels: tuple[Panel, ...]) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    columns = min(len(panels), 3 if len(panels) != 4 else 2)
    rows = math.ceil(len(panels) / columns)
    width, height = max(p.width for p in panels), max(p.height for p in panels)
    canvas = Canvas(figsize=(width * columns, height * rows), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12))
    FigureCanvasAgg(canvas)
    for number, panel in enumerate(panels):
        axes: Any = canvas.add_subplot(rows, columns, number + 1)
        axes.set_title(panel.title)
        panel.draw(axes)
    sink = io.BytesIO()
    canvas.savefig(sink, format="png", dpi=130, facecolor="white", metadata={"Software": None})
    return sink.getvalue()


def thin(rows: pl.DataFrame, most: int = MOST_MARKS) -> pl.DataFrame:
    """At most `most` rows, evenly spaced, so that the same are drawn on every run."""
    if rows.height <= most:
        return rows
    return rows.select(pl.all().gather([(place * rows.height) // most for place in range(most)]))


def interval_line(axes: Any, y: float, value: float | None, low: float | None, high: float | None, colour: str) -> None:
    """A dot at `value` and a bar from `low` to `high` at height `y`; undefined parts are left out."""
    if low is not None and high is not None:
        axes.plot([low, high], [y, y], color=colour, linewidth=2.6, solid_capstyle="butt")
    if value is not None:
        axes.plot([value], [y], "o", color=colour, markersize=6.5)
