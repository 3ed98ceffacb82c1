"""Panels to SVG: one palette, one type, no global state.

Colours are drawn as fixed hex values and handed to the page as CSS variables, so that one SVG reads well on paper, on
a light and on a dark screen. The numbers behind a figure travel with it as a table.
"""

from __future__ import annotations

import html
import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
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
    """A figure as one SVG a panel (to inline), all panels as one SVG file (empty without panels), and its table."""

    name: str
    title: str
    svgs: tuple[str, ...]
    still: str
    table: pl.DataFrame
    note: str


def render(figure: Figure) -> RenderedFigure:
    """Draws every panel once: for the page, and as part of the still."""
    import matplotlib

    with matplotlib.rc_context(_STYLE):
        drawn = [_drawn(panel) for panel in figure.panels]
    svgs = []
    for number, (panel, svg) in enumerate(zip(figure.panels, drawn, strict=True)):
        label = f"{figure.title}: {panel.title}. {figure.alt}" if panel.title else f"{figure.title}. {figure.alt}"
        svgs.append(inline_svg(svg, f"{figure.name}-{number}", label, panel.width))
    still = joined_svg(drawn, figure.panels, figure.title) if drawn else ""
    return RenderedFigure(figure.name, figure.title, tuple(svgs), still, figure.table, figure.note)


def _drawn(panel: Panel) -> str:
    """A panel as matplotlib writes it, without what has no place in another SVG."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(panel.width, panel.height), layout="constrained")
    FigureCanvasSVG(canvas)
    axes = canvas.add_subplot()
    axes.set_title(panel.title)
    panel.draw(axes)
    # laid out here, once: matplotlib would draw everything twice for it
    engine = canvas.get_layout_engine()
    assert engine is not None
    engine.execute(canvas)
    canvas.set_layout_engine(None)
    sink = io.StringIO()
    canvas.savefig(sink, format="svg", transparent=True)
    body = sink.getvalue()
    body = body[body.index("<svg") :]
    # it holds the time of day, which would change the page on every run
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    # its rule is for `*` and would restyle the whole page
    body = re.sub(r"<style\b.*?</style>", "", body, flags=re.DOTALL)
    return re.sub(r"<!--.*?-->\s*", "", body, flags=re.DOTALL).replace("xlink:href=", "href=")


def joined_svg(drawn: Sequence[str], panels: Sequence[Panel], title: str) -> str:
    """Panels side by side in one SVG file, on white; its unit is the point."""
    columns = min(len(panels), 3 if len(panels) != 4 else 2)
    rows = math.ceil(len(panels) / columns)
    width, height = (72 * max(getattr(p, side) for p in panels) for side in ("width", "height"))
    parts = []
    for number, svg in enumerate(drawn):
        x, y = width * (number % columns), height * (number // columns)
        panel = panels[number]
        size = f'width="{72 * panel.width:g}" height="{72 * panel.height:g}"'
        inner = _prefixed(svg, f"panel-{number}")
        parts.append(f'<svg x="{x:g}" y="{y:g}" {size} viewBox="{_box(svg)}">{inner[inner.index(">") + 1 :]}')
    box = f"0 0 {width * columns:g} {height * rows:g}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" width="{width * columns:g}" '
        f'height="{height * rows:g}" font-family="DejaVu Sans, sans-serif"><title>{html.escape(title)}</title>'
        '<style>*{stroke-linejoin:round;stroke-linecap:butt}</style><rect width="100%" height="100%" fill="#ffffff"/>\n'
        + "\n".join(parts)
        + "</svg>\n"
    )


def _prefixed(svg: str, prefix: str) -> str:
    """An SVG whose ids are its own, whatever else stands beside it."""
    body = re.sub(r'\bid="', f'id="{prefix}-', svg)
    return body.replace('href="#', f'href="#{prefix}-').replace("url(#", f"url(#{prefix}-")


def _box(svg: str) -> str:
    found = re.search(r'viewBox="([^"]+)"', svg)
    if found is None:
        raise ValueError("the SVG has no viewBox, so it cannot be scaled to the page")
    return found[1]


def inline_svg(svg: str, prefix: str, label: str, width: float) -> str:
    """A matplotlib SVG made fit to stand inside an HTML page.

    Args:
        svg: what matplotlib drew, without metadata, styles and comments.
        prefix: put before every id, so that ids stay unique on a page with many figures.
        label: alternative text.
        width: natural width in inches; the page shrinks it where there is less room.
    """
    body, box = _prefixed(svg, prefix), _box(svg)
    head = (
        f'<svg class="fig" viewBox="{box}" role="img" aria-label="{html.escape(label)}" '
        f'style="--w:{round(width * 96)}px">'
    )
    body = re.sub(r"^<svg\b[^>]*>", lambda _: head, body, count=1)
    for colour, variable in VARIABLES.items():
        body = body.replace(colour, f"var({variable})")
    return re.sub(r"\n\s*", "\n", body).strip()


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
