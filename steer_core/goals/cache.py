"""A cache of goal values: what was measured once, under the same scorer version, is not measured again.

Rows live in Parquet parts: the text's content hash as two columns, and one column per scorer (null: not measured;
NaN: undefined for this text). Parts are only ever added, each put in place in one step, so a kill loses at most the
chunk under way. Whoever writes the same text under the same scorer writes the same value, so parts need no lock.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from schemas.digest import digest_text
from steer_core.tables.errors import TableError
from steer_core.tables.files import filesystem, join, open_file, write_file

Keys = NDArray[np.uint64]
Floats = NDArray[np.float64]

_KEY = ("key_high", "key_low")

#: Stands for "not measured" in what `CacheIndex.find` returns; no scorer may return it.
MISSING = float("inf")


def text_keys(texts: Sequence[str]) -> Keys:
    """Content hashes of texts, shape [n, 2]: the two halves of `digest_text`."""
    digests = bytes.fromhex("".join(map(digest_text, texts)))
    return np.frombuffer(digests, dtype=">u8").astype(np.uint64).reshape(-1, 2)


@dataclass(frozen=True)
class CacheIndex:
    """What a cache holds for some scorers, sorted by key.

    It takes 16 bytes a text, and 8 more for each scorer.

    Attributes:
        scorer_ids: scorers, in the order of the columns of `values`.
        high, low: halves of the keys, shape [n], ascending in `high`.
        values: shape [scorers, n]; NaN where undefined, `MISSING` where not measured.
    """

    scorer_ids: tuple[str, ...]
    high: Keys
    low: Keys
    values: Floats

    def find(self, keys: Keys) -> Floats:
        """Values of texts, shape [n, scorers]; NaN where undefined, `MISSING` where not in the cache."""
        found = np.full((len(keys), len(self.scorer_ids)), MISSING)
        rows, at = self._locate(keys[:, 0], keys[:, 1])
        found[rows] = self.values[:, at].T
        return found

    def _locate(self, high: Keys, low: Keys) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Which of the keys are here, and where."""
        if not len(self.high):
            return np.empty(0, np.intp), np.empty(0, np.intp)
        # keys in order find their places near each other: among 10^7 that is four times as fast as at random
        order = np.argsort(high)
        at = np.empty(len(high), np.intp)
        at[order] = np.searchsorted(self.high, high[order])
        at = np.minimum(at, len(self.high) - 1)
        # two texts that share half a hash cost one of them its place, never its value
        rows = np.flatnonzero((self.high[at] == high) & (self.low[at] == low))
        return rows, at[rows]


@dataclass(frozen=True)
class GoalCache:
    """A folder of parts.

    Attributes:
        folder: where they live, any fsspec URL; made when first written to.
    """

    folder: str

    def add(self, keys: Keys, scorer_ids: Sequence[str], values: Floats) -> None:
        """Add what was measured, as one part.

        Args:
            keys: content hashes, shape [n, 2].
            scorer_ids: scorers measured, one per column.
            values: shape [n, scorers]; NaN where undefined.
        """
        if not len(keys) or not scorer_ids:
            return
        columns: dict[str, Any] = {_KEY[0]: keys[:, 0], _KEY[1]: keys[:, 1]}
        columns.update((scorer_id, values[:, i]) for i, scorer_id in enumerate(scorer_ids))
        part = pl.DataFrame(columns)
        write: Callable[[IO[bytes]], object] = lambda file: part.write_parquet(file, compression="zstd")  # noqa: E731
        write_file(join(self.folder, f"{uuid.uuid4().hex}.parquet"), write)

    def parts(self) -> list[str]:
        """URLs of the parts, sorted; what a killed writer left behind is no part."""
        fs, path = filesystem(self.folder)
        if not fs.exists(path):
            return []
        fs.invalidate_cache(path)
        names = (str(p).rsplit("/", 1)[-1] for p in fs.ls(path, detail=False))
        return sorted(join(self.folder, n) for n in names if n.endswith(".parquet") and not n.startswith("."))

    def index(self, scorer_ids: Sequence[str]) -> CacheIndex:
        """Everything that is known for some scorers.

        Raises:
            TableError: a part is damaged or was written by something else; names the file.
        """
        wanted = tuple(scorer_ids)
        # keys first, values in a second pass: the whole index is never in memory twice
        parts = [part for part in self.parts() if set(_columns(part)) & set(wanted)]
        keys = [_read(part, _KEY) for part in parts]
        high = np.concatenate([k[_KEY[0]].to_numpy() for k in keys]) if keys else np.empty(0, np.uint64)
        low = np.concatenate([k[_KEY[1]].to_numpy() for k in keys]) if keys else np.empty(0, np.uint64)
        del keys
        high, first = np.unique(high, return_index=True)
        low = low[first]
        index = CacheIndex(wanted, high, low, np.full((len(wanted), len(high)), MISSING))
        for part in parts:
            held = [s for s in wanted if s in _columns(part)]
            rows = _read(part, (*_KEY, *held))
            here, at = index._locate(rows[_KEY[0]].to_numpy(), rows[_KEY[1]].to_numpy())
            for scorer_id in held:
                measured = rows[scorer_id].fill_null(MISSING).to_numpy()[here]
                kept = measured != MISSING
                index.values[wanted.index(scorer_id), at[kept]] = measured[kept]
        return index


def _columns(part: str) -> dict[str, pl.DataType]:
    try:
        with open_file(part) as file:
            columns = dict(pl.read_parquet_schema(file))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _damaged(part, error) from error
    foreign = [n for n, t in columns.items() if t != (pl.UInt64 if n in _KEY else pl.Float64)]
    if foreign or not set(_KEY) <= set(columns):
        raise _damaged(part, f"its columns are {', '.join(f'{n}: {t}' for n, t in columns.items())}")
    return columns


def _read(part: str, columns: Sequence[str]) -> pl.DataFrame:
    try:
        with open_file(part) as file:
            return pl.read_parquet(file, columns=list(columns))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _damaged(part, error) from error


def _damaged(part: str, reason: object) -> TableError:
    return TableError(
        f"goal cache part {part} cannot be read ({reason}): it is damaged, or no part of a goal cache. Delete this one "
        "file; its texts will be measured again, nothing else is lost"
    )
