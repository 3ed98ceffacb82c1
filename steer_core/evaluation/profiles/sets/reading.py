"""Rows of a set from where its spec says: what ships, a file, or the hub; with row and place for whatever is wrong."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steer_core.corpus.contrasts.files import FORMATS, read_document, read_records
from steer_core.corpus.sources import load_hub
from steer_core.tables.errors import SteerworksError

SHIPPED = "shipped"
#: Where a user wrote a path, in errors.
NAMED_IN = "`path` of the set"


@dataclass(frozen=True)
class Record:
    """One row as it was read.

    Attributes:
        place: file or data set.
        row: 0-based.
        values: column -> value.
    """

    place: str
    row: int
    values: Mapping[str, Any]

    def error(self, said: str) -> SteerworksError:
        """An error that names place and row."""
        return SteerworksError(f"{self.place}, row {self.row} (0-based): {said}")

    def get(self, column: str) -> Any:
        """A value; None where the row has none."""
        return self.values.get(column)

    def need(self, *columns: str) -> Any:
        """The value of the first of the columns that the row has.

        Raises:
            SteerworksError: it has none of them.
        """
        for column in columns:
            if (value := self.values.get(column)) is not None:
                return value
        raise self.error(f"no {' or '.join(columns)}; the row has {', '.join(map(str, self.values)) or 'nothing'}")

    def text(self, *columns: str) -> str:
        """The same, as text that is not blank.

        Raises:
            SteerworksError: it has none, or it is no text, or blank.
        """
        value = self.need(*columns)
        if not isinstance(value, str) or not value.strip():
            raise self.error(f"{columns[0]} is {json.dumps(value, default=str)[:60]}: it must be text, and not blank")
        return value

    def label(self, column: str) -> str | None:
        """A text or number as text; None where the row has none, or an empty one."""
        value = self.values.get(column)
        if isinstance(value, dict | list):
            raise self.error(f"{column} is {json.dumps(value, default=str)[:60]}: it must be a text or a number")
        return None if value is None or str(value) == "" else str(value)


def shipped_path(name: str) -> str:
    """Path of a file that ships with the library."""
    return str(Path(__file__).parent / "shipped" / name)


def read_place(
    path: str | None,
    dataset: str | None,
    shipped: str,
    *,
    config: str | None = None,
    split: str | None = None,
    revision: str | None = None,
) -> tuple[list[Record], str]:
    """Rows of a set, and where they are from as the column `source` says it.

    Args:
        path: a file: JSON (a list, or an object of columns as pandas writes it), JSON lines, CSV or Parquet.
        dataset: hub id.
        shipped: file that is read where neither is given.
        config: of the data set.
        split: of the data set.
        revision: of the data set.

    Raises:
        SteerworksError: it cannot be read; names what, and what to do.
    """
    if dataset is not None:
        return _hub_records(dataset, config, split, revision), f"{dataset}@{revision or 'main'}"
    if path is not None:
        return file_records(path), path
    found = file_records(shipped_path(shipped))
    return [Record(f"shipped {shipped}", r.row, r.values) for r in found], SHIPPED


def file_records(path: str) -> list[Record]:
    """Rows of a JSON, JSON lines, CSV or Parquet file.

    Raises:
        SteerworksError: see `read_place`.
    """
    kind = FORMATS.get(path.rsplit(".", 1)[-1].lower())
    if kind in ("csv", "parquet"):
        return _numbered(path, read_records(path, named_in=NAMED_IN))
    if kind is None:
        raise SteerworksError(
            f"cannot tell the format of {path} by its ending; name the file .json, .jsonl, .csv or .parquet"
        )
    body = read_document(path, named_in=NAMED_IN)
    if isinstance(body, dict):
        columns = list(body.values())
        by_column = columns and all(isinstance(c, dict) and c.keys() == columns[0].keys() for c in columns)
        body = [{name: c[key] for name, c in body.items()} for key in columns[0]] if by_column else [body]
    if not isinstance(body, list):
        raise SteerworksError(f"{path} holds a JSON {type(body).__name__}; it must hold objects, one a row")
    return _numbered(path, body)


def _numbered(path: str, rows: list[Any]) -> list[Record]:
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise SteerworksError(f"{path}, row {number} (0-based) is no object with named fields")
    return [Record(path, number, row) for number, row in enumerate(rows)]


def _hub_records(dataset: str, config: str | None, split: str | None, revision: str | None) -> list[Record]:
    if split is None:
        raise SteerworksError(f"data set {dataset!r}: which split is not known; name it in `split`")
    try:
        data = load_hub(dataset, config=config, split=split, revision=revision)
    except SteerworksError as error:
        raise SteerworksError(
            f"{error}. Without the hub, download a file of {dataset} elsewhere and give it as `path`"
        ) from error
    return [
        Record(dataset, number, {name: _named(data.features[name], value) for name, value in row.items()})
        for number, row in enumerate(data)
    ]


def _named(feature: Any, value: Any) -> Any:
    """A value of a data set with the names of its class labels in place of their numbers."""
    if hasattr(feature, "int2str"):
        return feature.int2str(value) if isinstance(value, int) and value >= 0 else None
    inner = getattr(feature, "feature", feature)
    if isinstance(value, dict) and isinstance(inner, Mapping):
        return {name: _named(inner.get(name), part) for name, part in value.items()}
    if isinstance(value, list):
        # a list feature of old versions is a list of one
        own = inner[0] if isinstance(inner, list) else inner
        return [_named(own, part) for part in value]
    return value


def numbers(values: Mapping[str, Any]) -> dict[str, float | None]:
    """Those values that are numbers; NaN, which has no JSON, as null."""
    found = {k: v for k, v in values.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    return {k: v if math.isfinite(v) else None for k, v in found.items()}
