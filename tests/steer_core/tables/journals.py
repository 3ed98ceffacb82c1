"""Rows for the journal's tests, and what a reading opened."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import polars as pl

from schemas import Responses
from schemas.digest import digest_text
from steer_core.tables import Journal
from steer_core.tables import journal as module


def responses(start: int, stop: int, word: str = "x", seconds: float = 0.25) -> pl.DataFrame:
    """Rows `r{start}` to `r{stop - 1}`."""
    texts = [f"{word} {i} é\n" * (1 + i % 3) for i in range(start, stop)]
    columns = {
        "response_id": [f"r{i}" for i in range(start, stop)],
        "plan_id": [digest_text(t) for t in texts],
        "plan": [f'{{"text":"{i}"}}' for i in range(start, stop)],
        "sample_index": [0 for _ in texts],
        "seed": list(range(start, stop)),
        "execution": ["cpu" for _ in texts],
        "raw": texts,
        "text": [t.strip() for t in texts],
        "text_id": [digest_text(t.strip()) for t in texts],
        "finish_reason": ["stop" for _ in texts],
        "parsed": [True for _ in texts],
        "prompt_tokens": [1 for _ in texts],
        "completion_tokens": list(range(start, stop)),
        "seconds": [seconds for _ in texts],
        "receipt": [None if i % 2 else "{}" for i in range(start, stop)],
    }
    return pl.DataFrame(columns, schema=Responses.empty().schema)


def filled(url: object, parts: int, size: int = 4) -> Journal:
    """A journal of equal parts, as they were appended."""
    journal = Journal(str(url), Responses)
    for n in range(parts):
        journal.append(responses(n * size, (n + 1) * size))
    return journal


def same_rows(found: pl.DataFrame, expected: pl.DataFrame) -> bool:
    """Every row, exactly once, and equal."""
    return found.sort("seed").equals(expected.sort("seed"))


@contextmanager
def opened() -> Iterator[list[str]]:
    """Names of the Parquet files that the readings inside open, in order."""
    names: list[str] = []

    def noted(read):
        def reading(fs, path, *args):
            names.append(path.rsplit("/", 1)[-1])
            return read(fs, path, *args)

        return reading

    patches = [patch.object(module, n, noted(getattr(module, n))) for n in ("read_part", "read_rows", "read_columns")]
    for p in patches:
        p.start()
    try:
        yield names
    finally:
        for p in patches:
            p.stop()
