"""Settings that a search told: listed, or one of them as a method to put into methods.yaml."""

from __future__ import annotations

import argparse
import json

import polars as pl
import yaml

from schemas import SearchResults
from schemas.specs import BenchSpec, MethodSpec
from steer_assets.commands.printing import print_table
from steer_assets.io import read_published, table_url
from steer_assets.partitions import Cell, named_cell
from steer_assets.settings import storage_root
from steer_core.tables.errors import ConfigError, SteerworksError
from steer_core.tables.snapshot import table_exists

_SHOWN = (
    "name",
    "role",
    "validation",
    "test",
    "low",
    "high",
    "effect",
    "effect_low",
    "effect_high",
    "p_random",
    "label",
)


def setting(bench: BenchSpec, options: argparse.Namespace) -> None:
    """Print the settings that a cell's search told, or one of them as a method."""
    cell = named_cell(bench, options.cell)
    rows = told(cell)
    if options.name is None:
        print_table(rows.select(_SHOWN).with_columns(pl.selectors.float().round(3).cast(pl.String)))
        print("\nvalidation: the mean where it was chosen, too good; effect: test items, against the model as it is.")
        return
    print(as_method(rows, cell, options.name, options.method), end="")


def told(cell: Cell) -> pl.DataFrame:
    """Rows of `search_results` of a cell.

    Raises:
        SteerworksError: it has none yet.
    """
    url = table_url(storage_root(), cell.bench.name, "search_results", cell.key)
    if not table_exists(url):
        raise SteerworksError(
            f"{cell.key} has searched nothing yet: give its bench a `search`, and: steerworks run {cell.method.name}"
        )
    return read_published(url, SearchResults)


def as_method(rows: pl.DataFrame, cell: Cell, name: str, method: str | None = None) -> str:
    """A setting as an entry of methods.yaml: the cell's method with the vector at that setting.

    Args:
        rows: rows of `search_results`.
        cell: whose they are.
        name: of the setting.
        method: what the method is to be called; None: the cell's, with the behavior and the trial.

    Raises:
        ConfigError: no such setting, or one that no vector part is.
    """
    found = rows.filter(pl.col("name") == name)
    if not found.height:
        raise ConfigError(f"{cell.key} told no setting {name!r}; it told: {', '.join(rows['name'])}")
    row = found.row(0, named=True)
    part = json.loads(row["part"])
    if not part:
        raise ConfigError(
            f"setting {name!r} ({row['label']}) gives each layer a strength of its own, which no part has"
        )
    label = next(p for p in cell.method.labels() if p.startswith("vector"))
    parts = [
        part if own == label else spec.model_dump(mode="json", exclude_defaults=True) | {"kind": spec.kind}
        for own, spec in zip(cell.method.labels(), cell.method.parts, strict=True)
    ]
    called = method or f"{cell.method.name}-{row['behavior']}-{row['number']}"
    body = {"parts": parts, "description": f"Found by search: {row['label']}"}
    MethodSpec.model_validate({"name": called, **body})
    written: str = yaml.safe_dump({called: body}, sort_keys=False, allow_unicode=True, width=110)
    return written
