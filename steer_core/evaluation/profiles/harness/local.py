"""Data of tasks from files: no hub, no cache, no network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from steer_core.tables.errors import ConfigError

#: Files that splits are read from.
KINDS = (".jsonl", ".json", ".csv", ".parquet")


def load_files(files: Mapping[str, str], config_source: str = "", **_: Any) -> dict[str, Any]:
    """Splits of a task, for `custom_dataset` of its YAML.

    Args:
        files: split -> file, from the folder of the YAML unless it is absolute; `dataset_kwargs` of the YAML.
        config_source: the YAML; the harness says it.

    Returns:
        Split -> `datasets.Dataset`.

    Raises:
        ConfigError: a file is not there or holds no rows.
    """
    folder = Path(config_source).parent
    return {split: _dataset(folder / file) for split, file in files.items()}


def load_folder(folder: str, **_: Any) -> dict[str, Any]:
    """Splits of a task from a folder: `train.jsonl`, `validation.parquet` ...; `.json` is a list of rows.

    Returns:
        Split -> `datasets.Dataset`.

    Raises:
        ConfigError: it has no such files, or one holds no rows.
    """
    files = {p.stem: p for p in sorted(Path(folder).glob("*")) if p.suffix in KINDS}
    if not files:
        raise ConfigError(f"{folder} has no files of splits: it wants <split>{', <split>'.join(KINDS)}")
    return {split: _dataset(file) for split, file in files.items()}


def _dataset(file: Path) -> Any:
    from datasets import Dataset

    rows = _rows(file)
    if not rows:
        raise ConfigError(f"{file} holds no rows")
    return Dataset.from_list(rows)


def _rows(file: Path) -> list[dict[str, Any]]:
    try:
        if file.suffix == ".parquet":
            return pl.read_parquet(file).to_dicts()
        if file.suffix == ".csv":
            return pl.read_csv(file).to_dicts()
        text = file.read_text(encoding="utf-8")
        if file.suffix == ".json":
            return list(json.loads(text))
        return [_row(file, k, line) for k, line in enumerate(text.splitlines(), 1) if line.strip()]
    except ConfigError:
        raise
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        raise ConfigError(f"{file} cannot be read as rows of a task: {error}") from error


def _row(file: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise ConfigError(f"{file}, line {number}: no JSON: {error}") from error
    if not isinstance(row, dict):
        raise ConfigError(f"{file}, line {number}: a row is an object, not {type(row).__name__}")
    return row
