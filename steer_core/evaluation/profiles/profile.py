"""Textual characteristics of a table of texts: each text is read once, and all families share the reading.

1. Every text has a row for every metric asked for. A value that does not exist is null, with the reason beside it.
2. A text's values hang on the text alone, not on its neighbours, its place, or the size of the batch.
3. A batch at a time is in memory; families that ask a model ask once a chunk.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import polars as pl

from schemas.profiles import TextProfiles
from steer_core.evaluation.profiles.family import Family, Resources, load_families
from steer_core.evaluation.profiles.reading import Reader
from steer_core.evaluation.profiles.value import Missing, Value
from steer_core.goals.errors import ScoringError
from steer_core.tables.errors import SteerworksError

#: Bumped when the same texts give other values.
VERSION = "1"
#: Texts that are read, and held, at a time.
CHUNK_SIZE = 500


def describe_metrics() -> pl.DataFrame:
    """All metrics there are: columns `metric`, `family`, `description` (with the unit)."""
    rows = [
        (metric, name, family.metrics[metric])
        for name, (family, metrics) in load_families(None, Resources()).items()
        for metric in metrics
    ]
    return pl.DataFrame(rows, schema=["metric", "family", "description"], orient="row")


def profile_texts(
    texts: pl.DataFrame,
    metrics: Sequence[str] | None = None,
    *,
    resources: Resources | None = None,
    reader: Reader | None = None,
) -> pl.DataFrame:
    """Characteristics of all texts.

    Args:
        texts: columns `text_id` and `text`, both strings; a repeated `text_id` is measured once, by its first text.
        metrics: names of metrics or of whole families (`describe_metrics` lists them); None takes all.
        resources: what some families need beyond the text; without it their metrics are missing.
        reader: memo to reuse from an earlier call.

    Returns:
        Rows of contract `text_profiles`: for each text, in order of first appearance, one row a metric.

    Raises:
        SteerworksError: the table lacks a column or holds a null.
        ConfigError: an unknown metric.
        ScoringError: a family gave a value that is none; names metric and text.
    """
    (rows,) = profile_stream([texts], metrics, resources=resources, reader=reader)
    return rows


def profile_stream(
    batches: Iterable[pl.DataFrame],
    metrics: Sequence[str] | None = None,
    *,
    resources: Resources | None = None,
    reader: Reader | None = None,
) -> Iterator[pl.DataFrame]:
    """Characteristics of batches of texts one after the other, as `profile_texts` gives them, in bounded memory.

    A text that comes again in a later batch has rows in both.

    Yields:
        For each batch, in order, its rows of contract `text_profiles`.
    """
    families = list(load_families(metrics, resources or Resources()).values())
    memo = Reader() if reader is None else reader
    for batch in batches:
        _check_texts(batch)
        whole = batch.select("text_id", "text").unique("text_id", keep="first", maintain_order=True)
        parts = [_chunk(part, families, memo) for part in whole.iter_slices(CHUNK_SIZE)]
        yield pl.concat([TextProfiles.empty(), *parts])


def _check_texts(batch: pl.DataFrame) -> None:
    for name in ("text_id", "text"):
        if name not in batch.columns or batch.schema[name] != pl.String:
            raise SteerworksError(
                f"texts to profile need the string columns `text_id` and `text`; these have {dict(batch.schema)}"
            )
        if n := batch[name].null_count():
            raise SteerworksError(f"column {name!r} of the texts to profile has {n} nulls; an empty answer is ''")


def _chunk(part: pl.DataFrame, families: Sequence[tuple[Family, list[str]]], reader: Reader) -> pl.DataFrame:
    readings = [reader.read(text) for text in part["text"]]
    ids = part["text_id"].to_list()
    names = [metric for _, metrics in families for metric in metrics]
    rows: list[list[Value]] = [[] for _ in readings]
    for family, metrics in families:
        order = list(family.metrics)
        kept = [order.index(metric) for metric in metrics]
        measured = family.measure(readings)
        for row, values in zip(rows, measured, strict=True):
            row.extend([values[i] for i in kept])
    for text_id, row in zip(ids, rows, strict=True):
        _check_values(text_id, names, row)
    flat = [value for row in rows for value in row]
    return pl.DataFrame(
        {
            "text_id": [text_id for text_id in ids for _ in names],
            "metric": names * len(ids),
            "value": [None if isinstance(value, Missing) else value for value in flat],
            "missing": [str(value) if isinstance(value, Missing) else None for value in flat],
        },
        schema=TextProfiles.dtypes(),
    )


def _check_values(text_id: str, names: Sequence[str], row: Sequence[Value]) -> None:
    for name, value in zip(names, row, strict=True):
        if not isinstance(value, Missing) and not math.isfinite(value):
            raise ScoringError(
                f"metric {name!r} is {value} for text_id {text_id}: a value must be finite, or missing with a reason"
            )
