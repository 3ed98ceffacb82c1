"""What a report is on disk: a page, stills, and the tables behind the plots, with their digests."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from steer_core.reports.drawing import RenderedFigure

#: Largest page that is still pleasant to open on a phone.
PAGE_LIMIT = 3_000_000

_MANIFEST = {"file": pl.Utf8, "kind": pl.Utf8, "title": pl.Utf8, "sha256": pl.Utf8, "bytes": pl.Int64}


@dataclass(frozen=True)
class ReportFiles:
    """A finished report, still in memory.

    Attributes:
        files: relative name -> bytes: `report.html`, `figures/*.svg`, `tables/*.parquet`.
        manifest: one row a file, in contract `schemas.Reports`.
        preview_markdown: a few lines for the metadata pane of an orchestrator.
        headline: the figures of the headline by name; a figure that is undefined is absent.
    """

    files: Mapping[str, bytes]
    manifest: pl.DataFrame
    preview_markdown: str
    headline: Mapping[str, float] = field(default_factory=dict)


def bundle(
    page: str,
    page_title: str,
    figures: Sequence[RenderedFigure],
    tables: Mapping[str, tuple[str, pl.DataFrame]],
    preview_markdown: str,
    headline: Mapping[str, float],
) -> ReportFiles:
    """Puts page, figures and tables together and writes the manifest.

    Args:
        page: the HTML page.
        page_title: title of the page in the manifest.
        figures: rendered figures; each brings its still (where it has panels) and its table.
        tables: name -> (title, rows) of tables that belong to no figure.
        preview_markdown: see `ReportFiles`.
        headline: see `ReportFiles`.

    Raises:
        ValueError: the page is heavier than `PAGE_LIMIT`, or two files have the same name.
    """
    body = page.encode("utf-8")
    if len(body) > PAGE_LIMIT:
        raise ValueError(
            f"report.html of {page_title!r} is {len(body):,} bytes, more than {PAGE_LIMIT:,}: "
            "draw fewer points a panel or show fewer examples"
        )
    entries: list[tuple[str, str, str, bytes]] = [("report.html", "page", page_title, body)]
    for figure in figures:
        if figure.still:
            entries.append((f"figures/{figure.name}.svg", "figure", figure.title, figure.still.encode("utf-8")))
        entries.append((f"tables/{figure.name}.parquet", "table", f"Rows of: {figure.title}", parquet(figure.table)))
    entries += [(f"tables/{n}.parquet", "table", title, parquet(rows)) for n, (title, rows) in tables.items()]
    names = [name for name, *_ in entries]
    if len(set(names)) < len(names):
        raise ValueError(f"report {page_title!r}: two files share a name among {', '.join(sorted(names))}")
    manifest = pl.DataFrame(
        [(name, kind, title, hashlib.sha256(data).hexdigest(), len(data)) for name, kind, title, data in entries],
        schema=_MANIFEST,
        orient="row",
    )
    return ReportFiles({name: data for name, _, _, data in entries}, manifest, preview_markdown, dict(headline))


def parquet(rows: pl.DataFrame) -> bytes:
    """The rows as a Parquet file."""
    sink = io.BytesIO()
    rows.write_parquet(sink, compression="zstd")
    return sink.getvalue()
