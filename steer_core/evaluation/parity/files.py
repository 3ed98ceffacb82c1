"""Rows of files that others published, with the file and the row in every error."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from steer_core.corpus.contrasts.files import read_document, read_records
from steer_core.evaluation.parity.claim import DATA_VARIABLE
from steer_core.tables.errors import SteerworksError

#: Column that `records` adds: file and row, for errors.
PLACE = "\0place"


def records(path: Path) -> list[Mapping[str, Any]]:
    """Rows of a CSV, JSON or JSON lines file (which may end in `.json`).

    Raises:
        SteerworksError: it cannot be read, or is no list of rows.
    """
    named = f"the folder {DATA_VARIABLE}"
    rows = (
        read_document(str(path), named_in=named) if path.suffix == ".json" else read_records(str(path), named_in=named)
    )
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows) or not rows:
        raise SteerworksError(f"{path} holds no rows: a list of objects, or one a line, is needed")
    return [{**row, PLACE: f"{path}, row {i} (0-based)"} for i, row in enumerate(rows)]


def number(row: Mapping[str, Any], column: str) -> float:
    """A number of a row; text that spells one is one.

    Raises:
        SteerworksError: the row has none there.
    """
    try:
        return float(row[column])
    except (KeyError, TypeError, ValueError) as error:
        raise SteerworksError(f"{row[PLACE]}: {column} is {row.get(column)!r}: it must be a number") from error


def text(row: Mapping[str, Any], column: str) -> str:
    """A text of a row.

    Raises:
        SteerworksError: the row has none there.
    """
    value = row.get(column)
    if not isinstance(value, str) or not value.strip():
        raise SteerworksError(f"{row[PLACE]}: {column} is {value!r}: it must be text")
    return value
