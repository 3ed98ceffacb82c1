"""Commands about pages and what is taken away: open, figures, adapters."""

from __future__ import annotations

import argparse
import webbrowser
from pathlib import Path

from schemas.specs import BenchSpec
from steer_assets.partitions import named_cell
from steer_core.tables.errors import SteerworksError


def open_(bench: BenchSpec, options: argparse.Namespace) -> None:
    """Open a page."""
    from steer_assets.running import page_of
    from steer_core.tables.files import filesystem, is_local
    from steer_core.tables.snapshot import table_exists

    cell = named_cell(bench, options.cell) if options.cell else None
    page = page_of(bench.name, cell)
    if not table_exists(page):
        raise SteerworksError(f"there is no page {page} yet: steerworks run {cell.method.name if cell else 'METHOD'}")
    print(page)
    if not options.only_print:
        fs, path = filesystem(page)
        if not is_local(fs):
            raise SteerworksError(f"{page} is not on this machine: copy its folder here to read it")
        webbrowser.open(Path(path).resolve().as_uri())


def explore(bench: BenchSpec | None, options: argparse.Namespace) -> None:
    """Serve the explorer until Ctrl-C."""
    from steer_assets.explore.server import explorer
    from steer_assets.explore.serving import serve

    def ready(address: str) -> None:
        print(f"{address}  (Ctrl-C ends it)", flush=True)
        if not options.only_print:
            webbrowser.open(address)

    serve(explorer([bench.name] if bench else None), options.port, ready)


def stills(bench: BenchSpec, options: argparse.Namespace) -> None:
    """Write the figures of a page as PNG files."""
    from steer_assets.running import page_of
    from steer_core.reports.stills import png_of
    from steer_core.tables.files import filesystem, join, names_in, write_bytes

    cell = named_cell(bench, options.cell) if options.cell else None
    folder = join(page_of(bench.name, cell).rsplit("/", 1)[0], "figures")
    fs, path = filesystem(folder)
    drawn = [f"{path}/{name}" for name in names_in(fs, path, ".svg")]
    if not drawn:
        raise SteerworksError(
            f"there are no figures in {folder}: steerworks run {cell.method.name if cell else 'METHOD'}"
        )
    for file in drawn:
        target = str(options.out / f"{Path(str(file)).stem}.png")
        write_bytes(target, png_of(fs.cat_file(file).decode("utf-8")))
        print(target)


def export_vector(bench: BenchSpec, options: argparse.Namespace) -> None:
    """Write the vectors of a cell."""
    from steer_assets.vector_export import export_vectors

    folder, notes = export_vectors(named_cell(bench, options.cell), options.to, tuple(options.concepts))
    print(folder)
    for note in notes:
        print(note)


def export_adapter(bench: BenchSpec, options: argparse.Namespace) -> None:
    """Write the adapter that a cell wears."""
    from transformers.utils import logging

    from steer_assets.exporting import export_cell

    logging.disable_progress_bar()
    exported, notes = export_cell(named_cell(bench, options.cell), options.to, options.form)
    print(exported.folder)
    if exported.difference is not None:
        print(f"its logits differ from those of the adapter as it is worn by {exported.difference:.1e} of their spread")
    for note in notes:
        print(note)
