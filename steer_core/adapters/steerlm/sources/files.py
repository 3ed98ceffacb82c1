"""Rows of JSONL (plain or gzip) and Parquet files; every bad one is named, all of them at once."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import polars as pl
import polars.exceptions

from schemas.digest import digest_text
from schemas.steerlm import AttributeSet
from steer_core.adapters.steerlm.labels import check_labels
from steer_core.tables.errors import SteerworksError

T = TypeVar("T")
#: What bad rows lead to: one error that names them, or being left out and returned by name.
Bad = Literal["refuse", "drop"]
#: Bad rows that an error names one by one.
NAMED = 20


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        where: file and line, or file and row of a Parquet file; both counted from 1.
        values: its fields.
    """

    where: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Loaded(Generic[T]):
    """What a file holds.

    Attributes:
        items: in the file's order.
        problems: rows that were left out, each with file, line, what is wrong and what to do.
    """

    items: tuple[T, ...]
    problems: tuple[str, ...]


def load(path: Path, parse: Callable[[Row], Iterable[T]], bad: Bad = "refuse") -> Loaded[T]:
    """Everything in a file.

    Args:
        path: `.jsonl`, `.jsonl.gz` or `.parquet`.
        parse: makes items of a row; raises a SteerworksError where it cannot.
        bad: what bad rows lead to.

    Raises:
        SteerworksError: the file cannot be read, holds nothing, or has bad rows that are to be refused.
    """
    items: list[T] = []
    problems: list[str] = []
    for found in _rows(path):
        if isinstance(found, str):
            problems.append(found)
            continue
        try:
            items += list(parse(found))
        except SteerworksError as error:
            said = str(error)
            problems.append(said if found.where in said else f"{found.where}: {said}")
    if problems and bad == "refuse":
        more = f"\n... and {len(problems) - NAMED} more" if len(problems) > NAMED else ""
        listed = "\n".join(problems[:NAMED])
        raise SteerworksError(
            f"{path} has {len(problems)} bad rows; correct or remove them, or leave them out with "
            f'`bad="drop"`:\n{listed}{more}'
        )
    if not items:
        raise SteerworksError(f"{path} holds no row that can be used; {len(problems)} were left out")
    return Loaded(tuple(items), tuple(problems))


def text_of(row: Mapping[str, Any], name: str, *, empty: bool = False) -> str:
    """A field that is a text.

    Raises:
        SteerworksError: it is missing, no text, blank where that is not allowed, or holds half a character.
    """
    value = row.get(name)
    if value is None:
        there = ", ".join(map(str, row)) or "none"
        raise SteerworksError(f"no value in field {name!r} (it has {there}): fill it in or remove the row")
    if not isinstance(value, str):
        raise SteerworksError(f"field {name!r} is {str(value)[:40]!r}, which is no text: put it in quotes")
    if not empty and not value.strip():
        raise SteerworksError(f"field {name!r} is blank: fill it in or remove the row")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise SteerworksError(
            f"field {name!r} holds half a character (a lone surrogate): write the whole one, or take it out"
        ) from error
    return value


def levels_of(row: Mapping[str, Any], attributes: AttributeSet) -> dict[str, int]:
    """Levels that stand in fields called like the attributes; a missing or null one is not known.

    Raises:
        SteerworksError: none is known, or a value is no level.
    """
    found: dict[str, int] = {}
    for name in attributes.names:
        value = row.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or value - value != 0 or value % 1:
            raise SteerworksError(f"field {name!r} is {value!r}, which is no whole number: give its level, or null")
        found[name] = int(value)
    check_labels(found, attributes)
    if not found:
        raise SteerworksError(f"none of {', '.join(attributes.names)} has a value: label the row or remove it")
    return found


def held_out(group: str, share: float, seed: int) -> bool:
    """Whether a group of rows is kept for validation: by hash, so that rows of a group stay together.

    A new group moves no other to the other side.

    Raises:
        ValueError: the share lies outside [0, 1].
    """
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"share = {share}: what is held out lies in [0, 1]")
    return int(digest_text(f"steerlm:{seed}:{group}")[:12], 16) / 16**12 < share


def _rows(path: Path) -> Iterator[Row | str]:
    """Rows, and what is wrong with those that are none."""
    if not path.is_file():
        raise SteerworksError(f"no file at {path}: correct the path")
    name = path.name.lower()
    if name.endswith(".parquet"):
        try:
            table = pl.read_parquet(path, hive_partitioning=False)
        except (polars.exceptions.PolarsError, OSError) as error:
            raise SteerworksError(f"{path} is not readable as Parquet: {str(error).splitlines()[0][:200]}") from error
        for number, values in enumerate(table.iter_rows(named=True), start=1):
            yield Row(f"{path}, row {number}", values)
        return
    if not name.endswith((".jsonl", ".jsonl.gz")):
        raise SteerworksError(f"cannot tell the format of {path} by its ending: use .jsonl, .jsonl.gz or .parquet")
    try:
        with gzip.open(path, "rb") if name.endswith(".gz") else path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield _json_row(f"{path}, line {number}", line)
    except (OSError, EOFError, zlib.error) as error:
        raise SteerworksError(f"{path} cannot be read to its end: {error}; take a whole copy") from error


def _json_row(where: str, line: bytes) -> Row | str:
    try:
        values = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return f"{where}: not UTF-8: save the file as UTF-8"
    except (ValueError, RecursionError) as error:
        return f"{where}: no valid JSON ({str(error)[:80]}): write one object a line"
    if not isinstance(values, dict):
        return f"{where}: a {type(values).__name__} and no object: write one object a line"
    return Row(where, values)
