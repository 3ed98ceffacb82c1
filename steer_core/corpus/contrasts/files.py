"""Read the rows of a data file as text, and name file, row and column of whatever is wrong with them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import polars.exceptions

from schemas.digest import digest_bytes
from steer_core.tables.errors import SteerworksError
from steer_core.tables.files import filesystem, open_file

#: Ending -> format.
FORMATS = {"json": "json", "jsonl": "jsonl", "ndjson": "jsonl", "csv": "csv", "parquet": "parquet"}


@dataclass(frozen=True)
class Row:
    """One row of a file.

    Attributes:
        number: 0-based row.
        values: column -> text; optional columns that the row lacks are absent.
    """

    number: int
    values: Mapping[str, str]

    def __getitem__(self, column: str) -> str:
        return self.values[column]


def read_rows(path: str, *, required: Sequence[str], optional: Sequence[str] = ()) -> list[Row]:
    """The rows of a JSON list, JSONL, CSV or Parquet file, by its ending.

    CSV fields may hold line breaks inside quotes. Text is kept as it stands, white space included.

    Args:
        path: path or fsspec URL.
        required: columns that each row must have, as text; an empty text is accepted, a missing one is not.
        optional: columns that are read where they are there; numbers and booleans are taken as their JSON text.

    Raises:
        SteerworksError: no such file, unknown ending, not readable, no row, or a row without a required column.
    """
    raw = read_records(path)
    if not raw:
        raise SteerworksError(f"{path} has no row; each row needs {_listed(required)}")
    rows = []
    for number, body in enumerate(raw):
        values = {}
        for column in (*required, *optional):
            value = body.get(column)
            if value is None and column in required:
                there = _listed(k for k in body if isinstance(k, str))
                raise SteerworksError(
                    f"{path}, row {number} (0-based): no value in column {column!r}; the row has {there}. Give every "
                    f"row {_listed(required)}, or remove it"
                )
            if value is not None and not isinstance(value, str):
                if column in required:
                    raise SteerworksError(
                        f"{path}, row {number} (0-based), column {column!r}: {json.dumps(value, default=str)[:60]} is "
                        "no text; put it in quotes"
                    )
                value = json.dumps(value)
            if value is not None:
                values[column] = value
        rows.append(Row(number, values))
    return rows


def columns_of(path: str) -> set[str]:
    """Columns of the first row of a file: what decides between two layouts.

    Raises:
        SteerworksError: as `read_rows`.
    """
    return {k for body in read_records(path)[:1] for k in body}


def ending(path: str) -> str:
    """The format of a file by its ending, one of `FORMATS`' values.

    Raises:
        SteerworksError: none of them.
    """
    found = FORMATS.get(path.rsplit(".", 1)[-1].lower())
    if found is None:
        raise SteerworksError(f"cannot tell the format of {path} by its ending; use {_listed(sorted(FORMATS))}")
    return found


def digest_file(path: str) -> str:
    """Digest of a file's bytes; a file that is not there has the digest of nothing: reading it says so in words."""
    try:
        with open_file(path) as file:
            return digest_bytes(file.read())
    except (FileNotFoundError, IsADirectoryError):
        return digest_bytes(b"")


def source_labels(paths: Iterable[str]) -> dict[str, str]:
    """Path -> `folder/file`, which is the same on every machine; whole paths where two files would share a label."""
    paths = list(dict.fromkeys(paths))
    short = {p: "/".join(p.replace("\\", "/").rsplit("/", 2)[-2:]).lstrip("/") for p in paths}
    return short if len(set(short.values())) == len(paths) else {p: p for p in paths}


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def read_records(path: str, *, named_in: str = "behaviors.yaml") -> list[dict[str, Any]]:
    """The rows of a JSON list, JSONL, CSV or Parquet file, by its ending, with their values as they stand.

    Args:
        path: path or fsspec URL.
        named_in: where a user wrote the path, for the error of a file that is not there.

    Raises:
        SteerworksError: no such file, unknown ending, or not readable; names row or line.
    """
    kind = ending(path)
    data = _bytes_of(path, named_in)
    if kind == "parquet":
        try:
            return pl.read_parquet(io.BytesIO(data), hive_partitioning=False).to_dicts()
        except (polars.exceptions.PolarsError, OSError) as error:
            raise SteerworksError(f"{path} is not readable as parquet: {str(error).splitlines()[0][:200]}") from error
    text = _decoded(path, data)
    if kind == "csv":
        return _csv(path, text)
    return list(_whole(path, _json_list(path, text))) if kind == "json" else list(json_lines(path, text))


def read_document(path: str, *, named_in: str = "behaviors.yaml") -> Any:
    """What a JSON file holds; of a file with one object a line, the list of them. Its ending says neither.

    Raises:
        SteerworksError: no such file, or not readable; names row or line.
    """
    text = _decoded(path, _bytes_of(path, named_in))
    try:
        body = json.loads(text, object_pairs_hook=_named_once)
    except json.JSONDecodeError as error:
        # a second line of JSON lines is what follows a whole document
        if error.msg == "Extra data":
            return list(json_lines(path, text))
        raise SteerworksError(f"{path}, line {error.lineno}: not valid JSON: {error.msg}") from error
    except RecursionError as error:
        raise SteerworksError(f"{path}: brackets inside brackets without end") from error
    except ValueError as error:
        raise SteerworksError(f"{path}: {error} in an object: rename one of the two") from error
    rows = body if isinstance(body, list) and all(isinstance(row, dict) for row in body) else [{"document": body}]
    list(_whole(path, rows))
    return body


def _bytes_of(path: str, named_in: str) -> bytes:
    fs, local = filesystem(path)
    if not fs.exists(local):
        raise SteerworksError(f"no file at {path}; correct the path in {named_in}")
    try:
        with open_file(path) as file:
            return bytes(file.read())
    except OSError as error:
        raise SteerworksError(f"{path} cannot be read: {error.strerror or error}") from error


def _decoded(path: str, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SteerworksError(f"{path} is not UTF-8 text: {error}; save it as UTF-8") from error


def _whole(path: str, rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Rows whose texts are texts: JSON can spell half a character, which no file or tokenizer takes.

    Raises:
        SteerworksError: a text holds a lone surrogate; names row and field.
    """
    for number, row in enumerate(rows):
        for field, value in row.items():
            try:
                json.dumps([field, value], ensure_ascii=False).encode()
            except UnicodeEncodeError as error:
                raise SteerworksError(
                    f"{path}, row {number} (0-based), field {field!r}: half a character (a lone surrogate, \\ud800 to "
                    "\\udfff): write the whole character, or take it out"
                ) from error
        yield row


def _named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON.

    Raises:
        ValueError: it names a field twice: the first would vanish.
    """
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise ValueError(f"field {next(n for n in names if names.count(n) > 1)!r} stands twice")
    return dict(pairs)


def _csv(path: str, text: str) -> list[dict[str, Any]]:
    # the csv module wants line breaks as they stand, or those inside quotes would change
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    rows: list[dict[str, Any]] = []
    try:
        names = list(reader.fieldnames or [])
        if len(set(names)) < len(names):
            twice = next(n for n in names if names.count(n) > 1)
            raise SteerworksError(
                f"{path}: the header names column {twice!r} twice, so that one would vanish: rename it"
            )
        for row in reader:
            if None in row:
                raise SteerworksError(
                    f"{path}, row {len(rows)} (0-based, ends in line {reader.line_num}): more fields than the header; "
                    "put fields that hold commas or line breaks in double quotes"
                )
            rows.append(row)
    except csv.Error as error:
        raise SteerworksError(
            f"{path}, row {len(rows)} (0-based, near line {reader.line_num}): {error}; put fields that hold commas, "
            'quotes or line breaks in double quotes, and write a quote inside them as ""'
        ) from error
    return rows


def _json_list(path: str, text: str) -> list[dict[str, Any]]:
    try:
        body = json.loads(text, object_pairs_hook=_named_once)
    except json.JSONDecodeError as error:
        raise SteerworksError(f"{path}, line {error.lineno}: not valid JSON: {error.msg}") from error
    except RecursionError as error:
        raise SteerworksError(f"{path}: brackets inside brackets without end") from error
    except ValueError as error:
        raise SteerworksError(f"{path}: {error} in an object: rename one of the two") from error
    if not isinstance(body, list):
        raise SteerworksError(f"{path} holds a JSON {type(body).__name__}; it must be a list of objects, one a row")
    for number, row in enumerate(body):
        if not isinstance(row, dict):
            raise SteerworksError(f"{path}, row {number} (0-based) is no JSON object with named fields")
    return body


def json_lines(path: str, text: str) -> Iterator[dict[str, Any]]:
    """The objects of a JSONL file, one a line; blank lines are passed over.

    Raises:
        SteerworksError: a line is no object, names a field twice, or holds half a character; names line or row.
    """
    return _whole(path, _lines(path, text))


def _lines(path: str, text: str) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(text.split("\n")):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_named_once)
        except json.JSONDecodeError as error:
            raise SteerworksError(
                f"{path}, line {number + 1}: not valid JSON: {error.msg}; write one object a line"
            ) from error
        except RecursionError as error:
            raise SteerworksError(f"{path}, line {number + 1}: brackets inside brackets without end") from error
        except ValueError as error:
            raise SteerworksError(f"{path}, line {number + 1}: {error}: rename one of the two") from error
        if not isinstance(row, dict):
            raise SteerworksError(f"{path}, line {number + 1} is no JSON object with named fields")
        yield row
