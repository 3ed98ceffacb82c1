"""Read the rows of each kind of source."""

from __future__ import annotations

import codecs
import csv
import io
from typing import Any

import numpy as np
import polars as pl
import polars.exceptions

from schemas.specs import FileSource, GrammarSource, HubSource
from steer_core.corpus.contrasts.files import json_lines
from steer_core.corpus.sentences import chunk_sentences
from steer_core.tables.errors import SteerworksError
from steer_core.tables.files import filesystem, open_file

RowsSource = FileSource | HubSource


def read_source(source: GrammarSource | FileSource | HubSource) -> pl.DataFrame:
    """Texts of one source: columns `text`, `source`, `source_row` (0-based row of the source).

    Raises:
        SteerworksError: the file or data set cannot be read, the column is missing, or rows are blank.
    """
    if isinstance(source, GrammarSource):
        from steer_core.models.embedded.grammar import write

        texts = [t.text for t in write(source.n_texts, seed=source.seed, split="heldout")]
        return _frame(source.name, texts, list(range(len(texts))))
    rows = read_rows(source) if isinstance(source, FileSource) else _read_hub(source)
    return _select(rows, source)


def _frame(name: str, texts: list[str], rows: list[int]) -> pl.DataFrame:
    return pl.DataFrame(
        {"text": texts, "source": [name] * len(texts), "source_row": rows},
        schema={"text": pl.String, "source": pl.String, "source_row": pl.Int64},
    )


def read_rows(source: FileSource) -> pl.DataFrame:
    """All rows and columns of a local CSV, JSONL or Parquet file, as they stand.

    Raises:
        SteerworksError: the file is missing, of unknown format, or not readable as it.
    """
    fs, path = filesystem(source.path)
    if not fs.exists(path):
        raise SteerworksError(f"source {source.name!r}: no file at {source.path}; correct `path` in benches.yaml")
    kind = source.format or {"csv": "csv", "jsonl": "jsonl", "ndjson": "jsonl", "parquet": "parquet"}.get(
        source.path.rsplit(".", 1)[-1].lower()
    )
    if kind is None:
        raise SteerworksError(
            f"source {source.name!r}: cannot tell the format of {source.path} by its ending; set `format` to csv, "
            "jsonl or parquet"
        )
    try:
        with open_file(source.path) as file:
            data = file.read()
        if kind == "csv":
            _check_header(source, data)
            return pl.read_csv(data, infer_schema_length=None)
        if kind == "jsonl":
            _check_lines(source, data)
            return pl.read_ndjson(data.removeprefix(codecs.BOM_UTF8), infer_schema_length=None)
        return pl.read_parquet(data, hive_partitioning=False)
    except SteerworksError as error:
        raise type(error)(f"source {source.name!r}: {error}") from error
    except (polars.exceptions.PolarsError, OSError, UnicodeDecodeError) as error:
        detail = str(error).splitlines()[0][:200]
        raise SteerworksError(f"source {source.name!r}: {source.path} is not readable as {kind}: {detail}") from error


def _check_header(source: FileSource, data: bytes) -> None:
    """Raises a SteerworksError where the header of a CSV file names a column twice."""
    lines = io.StringIO(data.decode("utf-8-sig"), newline="")
    names = next(csv.reader(lines), [])
    if len(set(names)) < len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise SteerworksError(f"the header of {source.path} names column {twice!r} twice: rename one of the two")


def _check_lines(source: FileSource, data: bytes) -> None:
    """Raises a SteerworksError where Polars would make up a text, or drop one, and say no word about either."""
    values = [row.get(source.column) for row in json_lines(source.path, data.decode("utf-8-sig"))]
    odd = next((k for k, v in enumerate(values) if not isinstance(v, str | None)), None)
    if odd is not None and any(isinstance(v, str) for v in values):
        raise SteerworksError(
            f"{source.path}, row {odd} (0-based), column {source.column!r}: {str(values[odd])[:60]} is no text, and "
            "other rows have one; put it in quotes"
        )


def load_hub(dataset: str, *, config: str | None, split: str, revision: str | None) -> Any:
    """A split of a hub data set, or of a local dataset folder, as `datasets` gives it.

    Raises:
        SteerworksError: it cannot be loaded; names it and says what to check.
    """
    from datasets import load_dataset

    try:
        return load_dataset(dataset, config, split=split, revision=revision)
    # RuntimeError: a data set that is a program, which `datasets` runs no more
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise SteerworksError(
            f"data set {dataset!r} (config {config}, split {split!r}) could not be loaded: {str(error)[:300]}. Check "
            "the names, the network, and HF_HUB_OFFLINE"
        ) from error


def _read_hub(source: HubSource) -> pl.DataFrame:
    try:
        data = load_hub(source.dataset, config=source.config, split=source.split, revision=source.revision)
    except SteerworksError as error:
        raise SteerworksError(f"source {source.name!r}: {error}") from error
    wanted = {source.column, *source.filters}
    missing = sorted(wanted - set(data.column_names))
    if missing:
        raise _no_column(source, missing[0], data.column_names)
    return pl.from_arrow(data.select_columns(sorted(wanted)).with_format("arrow")[:])  # type: ignore[return-value]


def _no_column(source: RowsSource, column: str, there: list[str]) -> SteerworksError:
    place = source.path if isinstance(source, FileSource) else source.dataset
    return SteerworksError(f"source {source.name!r}: {place} has no column {column!r}; it has {', '.join(there)}")


def _select(rows: pl.DataFrame, source: RowsSource) -> pl.DataFrame:
    """Filters, sampling, blank rows and sentence chunks, in that order."""
    place = source.path if isinstance(source, FileSource) else source.dataset
    for column in (source.column, *source.filters):
        if column not in rows.columns:
            raise _no_column(source, column, rows.columns)
    # the file may have a column of any name
    number = "source_row"
    while number in rows.columns:
        number += "_"
    rows = rows.with_row_index(number).with_columns(pl.col(number).cast(pl.Int64))
    if not rows[source.column].dtype == pl.String:
        raise SteerworksError(
            f"source {source.name!r}: column {source.column!r} of {place} holds {rows[source.column].dtype}, not text"
        )
    for column, value in source.filters.items():
        try:
            kept = rows.filter(_equals(rows[column].dtype, column, value))
        except polars.exceptions.PolarsError as error:
            raise SteerworksError(
                f"source {source.name!r}: column {column!r} of {place} holds {rows[column].dtype}, which cannot be "
                f"compared with {value!r}; correct `filters`"
            ) from error
        if not kept.height and rows.height:
            seen = ", ".join(map(repr, rows[column].unique(maintain_order=True).head(5).to_list()))
            raise SteerworksError(
                f"source {source.name!r}: no row of {place} has {column} = {value!r}; the column has {seen} ..."
            )
        rows = kept
    if source.sample is not None:
        if source.sample > rows.height:
            raise SteerworksError(
                f"source {source.name!r}: a sample of {source.sample} was asked of {rows.height} rows in {place}"
            )
        chosen = np.random.default_rng(source.seed).choice(rows.height, source.sample, replace=False)
        rows = rows[np.sort(chosen).tolist()]
    blank = rows[source.column].is_null() | (rows[source.column].str.strip_chars().str.len_chars() == 0)
    if n := int(blank.sum()):
        if source.blank == "error":
            first = rows[number][int(blank.arg_max() or 0)]
            raise SteerworksError(
                f"source {source.name!r}: {n} blank or missing {'text' if n == 1 else 'texts'} in column "
                f"{source.column!r} "
                f"of {place}, the first in row {first} (0-based). Fill them in, or set `blank: drop`"
            )
        rows = rows.filter(~blank)
    texts, numbers = rows[source.column].to_list(), rows[number].to_list()
    if source.sentences is not None:
        pairs = [
            (chunk, row)
            for text, row in zip(texts, numbers, strict=True)
            for chunk in chunk_sentences(text, source.sentences, source.newline_ends_sentence)
        ]
        texts, numbers = [c for c, _ in pairs], [n for _, n in pairs]
    return _frame(source.name, texts, numbers)


def _equals(dtype: pl.DataType, column: str, value: Any) -> pl.Expr:
    """Rows with a value; a number may be written as text in a configuration, and the other way round."""
    # `true` would equal 1
    if isinstance(value, str) is not (dtype == pl.String) or isinstance(value, bool) is not (dtype == pl.Boolean):
        written = str(value).lower() if isinstance(value, bool) else str(value)
        return pl.col(column).cast(pl.String) == written
    return pl.col(column) == pl.lit(value)
