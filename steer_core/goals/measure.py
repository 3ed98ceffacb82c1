"""Measure goals of many texts: each text once, in parallel, through a cache, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from steer_core.goals.analysis import Analyzer
from steer_core.goals.cache import MISSING, CacheIndex, Floats, GoalCache, Keys, text_keys
from steer_core.goals.errors import ScoringError
from steer_core.goals.scorer import Scorer
from steer_core.goals.workers import Pool, ScorerFailedError, Values
from steer_core.tables.errors import SteerworksError

#: Texts that a process takes at a time, and that a kill can lose.
CHUNK_SIZE = 1000


@dataclass(frozen=True)
class _Batch:
    """A batch of texts under way."""

    text_ids: pl.Series
    texts: pl.Series
    keys: Keys | None
    values: Floats  # [texts, scorers], NaN undefined, MISSING to be measured


@dataclass(frozen=True)
class _Job:
    """Some texts of a batch that lack values of the same scorers; the last job of a batch closes it."""

    batch: _Batch
    rows: NDArray[np.intp]
    which: tuple[int, ...]
    last: bool

    @property
    def call(self) -> tuple[list[str], list[str], tuple[int, ...]]:
        """What a worker needs: text ids, texts, positions of the scorers."""
        return self.batch.text_ids.gather(self.rows).to_list(), self.batch.texts.gather(self.rows).to_list(), self.which


def measure(
    texts: pl.DataFrame,
    scorers: Sequence[Scorer],
    *,
    workers: int = 1,
    chunk_size: int = CHUNK_SIZE,
    cache: GoalCache | None = None,
    analyzer: Analyzer | None = None,
) -> pl.DataFrame:
    """Measure all goals of all texts.

    Args:
        texts: columns `text_id` and `text`, both strings; a repeated `text_id` is measured once, by its first text.
        scorers: what to measure; no `scorer_id` twice.
        workers: processes; 1 stays in this one. Processes are spawned, so a script that asks for more needs the usual
            `if __name__ == "__main__":`.
        chunk_size: texts that a process takes at a time; it changes no value.
        cache: where values are found and kept, by the content of the text.
        analyzer: memo to reuse from an earlier call in this process; with one worker only.

    Returns:
        Rows of contract `goal_values`: for each text, in order of first appearance, one row per scorer.

    Raises:
        SteerworksError: the table lacks a column or holds a null; a scorer comes twice.
        ScoringError: a scorer failed; names scorer and text.
        TableError: a part of the cache is damaged.
    """
    stream = measure_stream([texts], scorers, workers=workers, chunk_size=chunk_size, cache=cache, analyzer=analyzer)
    (values,) = stream
    return values


def measure_stream(
    batches: Iterable[pl.DataFrame],
    scorers: Sequence[Scorer],
    *,
    workers: int = 1,
    chunk_size: int = CHUNK_SIZE,
    cache: GoalCache | None = None,
    analyzer: Analyzer | None = None,
) -> Iterator[pl.DataFrame]:
    """Measure batches of texts one after the other, as `measure` does, in bounded memory.

    At any time about `2 * workers` chunks and the batches that they belong to are in memory, and the index of the
    cache (`CacheIndex` says how large it is). A text that comes again in a later batch has rows in both. Closing the
    iterator, or Ctrl-C, stops the worker processes; finished chunks are in the cache.

    Yields:
        For each batch, in order, its rows of contract `goal_values`.
    """
    ids = [s.scorer_id for s in scorers]
    repeated = sorted({i for i in ids if ids.count(i) > 1})
    if repeated:
        raise SteerworksError(f"scorers given twice: {', '.join(repeated)}; each may come once")
    if chunk_size < 1:
        raise SteerworksError(f"chunk_size must be at least 1, not {chunk_size}")
    if workers < 1:
        raise SteerworksError(f"workers must be at least 1, not {workers}")
    index = cache.index(ids) if cache else None
    jobs = (job for batch in batches for job in _jobs(_open(batch, len(ids), index), chunk_size))
    try:
        with Pool(scorers, workers, analyzer) as pool:
            for job, values in pool.map(jobs, lambda j: j.call):
                if len(job.rows):
                    _settle(job, values, ids, cache)
                if job.last:
                    yield _rows(job.batch, ids)
    except ScorerFailedError as failure:
        raise ScoringError(str(failure)) from failure


def _settle(job: _Job, values: Values, ids: Sequence[str], cache: GoalCache | None) -> None:
    """Put what was measured into its batch and into the cache."""
    measured = _as_matrix(job, values, ids)
    job.batch.values[job.rows[:, None], list(job.which)] = measured
    if cache is not None and job.batch.keys is not None:
        cache.add(job.batch.keys[job.rows], [ids[w] for w in job.which], measured)


def _open(batch: pl.DataFrame, n_scorers: int, index: CacheIndex | None) -> _Batch:
    """Check a batch, drop repeated texts, look up what is known."""
    for column in ("text_id", "text"):
        if batch.schema.get(column) != pl.String:
            having = ", ".join(f"{n}: {t}" for n, t in batch.schema.items()) or "none"
            raise SteerworksError(f"texts to measure need a string column {column!r}; the columns are {having}")
        if batch[column].null_count():
            row = batch[column].is_null().arg_max()
            raise SteerworksError(f"texts to measure: {column!r} is null in row {row}; drop such rows or use ''")
    texts = batch.select("text_id", "text").unique("text_id", keep="first", maintain_order=True)
    keys = text_keys(texts["text"].to_list()) if index is not None else None
    values = np.full((len(texts), n_scorers), MISSING) if index is None or keys is None else index.find(keys)
    return _Batch(texts["text_id"], texts["text"], keys, values)


def _jobs(batch: _Batch, chunk_size: int) -> Iterator[_Job]:
    """Cut what is missing into jobs; texts that lack the same scorers go together."""
    missing = batch.values == MISSING
    patterns, of_row = np.unique(missing, axis=0, return_inverse=True)
    chunks = []
    for number, pattern in enumerate(patterns):
        which = tuple(np.flatnonzero(pattern).tolist())
        rows = np.flatnonzero(of_row == number)
        if which:
            chunks += [(rows[i : i + chunk_size], which) for i in range(0, len(rows), chunk_size)]
    for rows, which in chunks[:-1]:
        yield _Job(batch, rows, which, last=False)
    rows, which = chunks[-1] if chunks else (np.empty(0, np.intp), ())
    yield _Job(batch, rows, which, last=True)


def _as_matrix(job: _Job, values: Values, ids: Sequence[str]) -> Floats:
    """Values of a job, shape [texts, scorers]; None becomes NaN."""
    matrix = np.array([[np.nan if v is None else v for v in column] for column in values], dtype=np.float64).T
    given = np.array([[v is not None for v in column] for column in values]).T
    if not np.isfinite(matrix[given]).all():
        row, column = np.argwhere(given & ~np.isfinite(matrix))[0]
        raise ScoringError(
            f"scorer {ids[job.which[column]]} returned {matrix[row, column]} for text_id "
            f"{job.batch.text_ids[int(job.rows[row])]}: a value must be finite, or None where the measure is undefined"
        )
    return matrix


def _rows(batch: _Batch, ids: Sequence[str]) -> pl.DataFrame:
    """A finished batch as rows of `goal_values`."""
    n, width = batch.values.shape
    return pl.DataFrame(
        {
            "text_id": batch.text_ids.gather(np.repeat(np.arange(n), width)),
            "scorer_id": pl.Series(ids, dtype=pl.String).gather(np.tile(np.arange(width), n)),
            "value": pl.Series(batch.values.reshape(-1), dtype=pl.Float64).fill_nan(None),
        }
    ).with_columns(state=pl.when(pl.col("value").is_null()).then(pl.lit("undefined")).otherwise(pl.lit("ok")))
