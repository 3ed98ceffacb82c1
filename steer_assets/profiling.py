"""Profiles from the command line: what a cell's settings change, two cells beside each other, and tables of texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from schemas import ProfileArms, ProfileChanges, ProfileItems, ProfileValues
from schemas.contract import Contract
from schemas.digest import digest_text
from schemas.profiles import PLAIN
from schemas.specs import FileSource
from steer_assets.io import read_published, table_url
from steer_assets.partitions import Cell
from steer_assets.settings import registry, storage_root
from steer_core.corpus.sources import read_rows
from steer_core.evaluation.profiles import compare_profiles, profile_texts, summarise_profile
from steer_core.evaluation.profiles.changes import changes_between
from steer_core.methods.load import load_method
from steer_core.methods.standing import why_not_profiled
from steer_core.tables.errors import ConfigError, SteerworksError
from steer_core.tables.snapshot import table_exists

#: Columns that a person reads of a difference.
FIGURES = ("plain_value", "value", "difference", "low", "high", "effect_size", "p_adjusted")
COLUMNS = ("setting", "profile", "metric", *FIGURES)


def settings_of(cell: Cell) -> pl.DataFrame:
    """Settings of a cell: columns `setting` (in words), `role`, `arm_id`."""
    return _table(cell, "profile_arms", ProfileArms).select("role", "arm_id", setting="label")


def own_changes(cell: Cell, every: bool = False) -> pl.DataFrame:
    """What each setting of a cell changes against the model as it is.

    Args:
        cell: the cell.
        every: all differences, not only those that stand.

    Raises:
        SteerworksError: it has no profiles.
    """
    rows = _table(cell, "profile_changes", ProfileChanges).join(settings_of(cell), on="arm_id", maintain_order="left")
    return _shown(rows if every else rows.filter("different"))


def between(
    one: Cell, other: Cell, setting: str | None, other_setting: str | None, every: bool = False
) -> pl.DataFrame:
    """One cell's setting against another cell's, item by item; by default each as its method is used.

    Raises:
        SteerworksError: a cell has no profiles, or was asked other items.
        ConfigError: it has no such setting, or several.
    """
    arms = [_arm(cell, wanted) for cell, wanted in ((one, setting), (other, other_setting))]
    values = [_table(cell, "profile_values", ProfileValues) for cell in (one, other)]
    items = read_published(table_url(storage_root(), one.bench.name, "profile_items", None), ProfileItems)
    rows = changes_between(values[0], arms[0], values[1], arms[1], items, seed=one.bench.seed)
    rows = rows.with_columns(setting=pl.lit(one.key))
    return _shown(rows if every else rows.filter("different"))


def _shown(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select(COLUMNS).with_columns(pl.col(c).round(3).cast(pl.String) for c in FIGURES)


def _arm(cell: Cell, wanted: str | None) -> str:
    known = settings_of(cell)
    if wanted is not None:
        found = known.filter(pl.col("setting") == wanted)
    else:
        used = known.filter(pl.col("role") == "request")
        found = used if used.height else known.filter(pl.col("arm_id") == PLAIN)
    if found.height != 1:
        listed = "; ".join(known["setting"])
        raise ConfigError(f"{cell.key}: {found.height} settings are meant: name one of: {listed}")
    return str(found["arm_id"][0])


def _table(cell: Cell, name: str, contract: type[Contract]) -> pl.DataFrame:
    url = table_url(storage_root(), cell.bench.name, name, cell.key)
    if not table_exists(url):
        if not cell.bench.profiles:
            raise SteerworksError(f"{cell.key} has no profiles: bench {cell.bench.name!r} lists no `profiles`")
        method = load_method(cell.method, cell.model, cell.bench, registry().goals_of(cell.bench))
        if (why := why_not_profiled(method)) is not None:
            raise SteerworksError(f"{cell.key} has no profiles: {why}")
        raise SteerworksError(f"{cell.key} has no profiles yet: steerworks run {cell.method.name}")
    return read_published(url, contract)


def texts_profile(
    file: Path, other: Path | None, column: str, by: str | None, metrics: list[str] | None
) -> tuple[pl.DataFrame, str]:
    """Characteristics of a file of texts; of two files, paired by a column, their differences.

    Args:
        file: CSV, JSONL or Parquet.
        other: a second one; None: none.
        column: that holds the text.
        by: column that pairs the rows of both; None: row i with row i.
        metrics: metrics or families; None: all.

    Returns:
        A table to read, and what to know of it.

    Raises:
        SteerworksError: a file cannot be read, lacks a column, or rows cannot be paired.
    """
    sides = [_side(f, column, by, metrics) for f in (file, other) if f is not None]
    if len(sides) == 1:
        means = summarise_profile(*sides[0]).filter(pl.col("statistic") == "mean")
        found = means.select("metric", "value", "low", "high", "n", "missing")
        return _rounded(found), "95 % intervals over texts; `missing` is the share of texts without a value"
    (profile, answers), (second, others) = sides
    found = compare_profiles(profile, answers, second, others)
    kept = ("metric", "value", "other_value", "difference", "low", "high", "p_adjusted", "different", "n")
    said = (
        "differences are the first file less the second, paired; `different` is corrected for all metrics (Holm, 5 %)"
    )
    return _rounded(found.select(kept)), said


def _rounded(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(pl.selectors.float().round(3).cast(pl.String))


def _side(file: Path, column: str, by: str | None, metrics: list[str] | None) -> tuple[pl.DataFrame, pl.DataFrame]:
    rows: Any = read_rows(FileSource(name="texts", path=str(file), column=column))
    for name in (column, *([by] if by is not None else [])):
        if name not in rows.columns:
            raise SteerworksError(f"{file} has no column {name!r}; it has {', '.join(rows.columns)}")
    texts = rows[column].cast(pl.String).fill_null("")
    ids = pl.Series([digest_text(t) for t in texts], dtype=pl.String)
    profile = profile_texts(pl.DataFrame({"text_id": ids, "text": texts}), metrics)
    items = rows[by].cast(pl.String) if by is not None else pl.Series(range(rows.height)).cast(pl.String)
    return profile, pl.DataFrame({"item_id": items, "text_id": ids})
