"""A bench's tables as they stand on storage now: which there are, and columns of them, kept until a file changes."""

from __future__ import annotations

import contextlib
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from schemas.contract import CONTRACTS, Contract
from schemas.specs import BenchSpec, GoalSpec
from steer_core.tables.conditional import stamp
from steer_core.tables.errors import TableError
from steer_core.tables.files import filesystem, join
from steer_core.tables.parts import read_columns
from steer_core.tables.survey import TABLE

_CELL = re.compile(r"/model=(?P<model>[^/]+)/method=(?P<method>[^/]+)/part\.parquet$")
#: Bytes of columns that are kept; the least recently used go first.
KEPT = 2_000_000_000


class MovedError(Exception):
    """A table was published while a view was made: what was read before is of another moment."""


@dataclass
class Bench:
    """Tables of one bench.

    Attributes:
        root: storage root, any fsspec URL.
        spec: the bench.
        goals: goal -> its spec, for words and units.
        controls: methods that are controls.
    """

    root: str
    spec: BenchSpec
    goals: Mapping[str, GoalSpec]
    controls: tuple[str, ...] = ()
    _columns: OrderedDict[tuple[str, str, tuple[str, ...]], pl.DataFrame] = field(default_factory=OrderedDict)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _seen: threading.local = field(default_factory=threading.local)

    @contextlib.contextmanager
    def one_look(self) -> Iterator[None]:
        """Inside, each file is looked at once, however often this thread asks for it: a view is of one moment.

        On a store each look is a request.
        """
        self._seen.marks, self._seen.cells = {}, {}
        try:
            yield
        finally:
            self._seen.marks = self._seen.cells = None

    def _mark(self, url: str) -> str:
        seen = getattr(self._seen, "marks", None)
        if seen is None:
            return stamp(url)
        if url not in seen:
            seen[url] = stamp(url)
        return str(seen[url])

    @property
    def name(self) -> str:
        """Of the bench."""
        return self.spec.name

    def url(self, table: str, cell: str = "") -> str:
        """Where a table lies; `cell` is `method|model`."""
        parts = [self.name, table]
        if cell:
            method, model = cell.split("|")
            parts += [f"model={model}", f"method={method}"]
        return join(self.root, *parts, TABLE)

    def cells(self, table: str = "steerability") -> list[str]:
        """Cells that have such a table, in the order of the configuration, those that it no longer has last."""
        seen = getattr(self._seen, "cells", None)
        if seen is not None and table in seen:
            return list(seen[table])
        found = self._cells(table)
        if seen is not None:
            seen[table] = found
        return found

    def _cells(self, table: str) -> list[str]:
        fs, path = filesystem(join(self.root, self.name, table))
        fs.invalidate_cache(path)
        matches = (_CELL.search(str(file)) for file in fs.find(path))
        found = [f"{m['method']}|{m['model']}" for m in matches if m is not None]
        known = [f"{method}|{model}" for model in self.spec.models for method in self.spec.methods]
        place = {key: n for n, key in enumerate(known)}
        return sorted(found, key=lambda key: (place.get(key, len(known)), key))

    def columns(self, table: str, columns: Sequence[str], cell: str = "") -> pl.DataFrame:
        """Columns of a table, unchecked, from memory where its file has not changed; no rows where there is none.

        Raises:
            TableError: the file is damaged, or of another contract.
            MovedError: it was published anew meanwhile: make the view again.
        """
        return self._read(self.url(table, cell), self._contract(table), columns)

    def rows_at(self, folder: str, contract: type[Contract], cell: str = "") -> pl.DataFrame:
        """All columns of a table whose folder is not called as its contract is."""
        return self._read(self.url(folder, cell), contract, contract.names())

    def _read(self, url: str, contract: type[Contract], columns: Sequence[str]) -> pl.DataFrame:
        mark = self._mark(url)
        if not mark:
            return contract.empty().select(columns)
        key = (url, mark, tuple(columns))
        with self._lock:
            if key in self._columns:
                self._columns.move_to_end(key)
                return self._columns[key]
        fs, path = filesystem(url)
        try:
            rows = read_columns(fs, path, contract, list(columns))
        except FileNotFoundError:
            return contract.empty().select(columns)
        if stamp(url) != mark:
            raise MovedError(url)
        with self._lock:
            for old in [k for k in self._columns if k[0] == url and k[1] != mark]:
                del self._columns[old]
            self._columns[key] = rows
            while len(self._columns) > 1 and sum(f.estimated_size() for f in self._columns.values()) > KEPT:
                self._columns.popitem(last=False)
        return rows

    def rows(self, table: str, cell: str = "") -> pl.DataFrame:
        """All columns of a table: see `columns`."""
        return self.columns(table, self._contract(table).names(), cell)

    def marks(self, tables: Sequence[str], cell: str = "") -> tuple[str, ...]:
        """What tells one state of some tables from another; empty for those that are not there."""
        return tuple(self._mark(self.url(table, cell)) for table in tables)

    @property
    def axes(self) -> list[str]:
        """Goals in the order of the goal space."""
        space = self.columns("goal_space", ["position", "goal"])
        return space.sort("position")["goal"].to_list() or list(self.spec.goals)

    @staticmethod
    def _contract(table: str) -> type[Contract]:
        if table not in CONTRACTS:
            raise TableError(f"there is no contract {table!r}")
        return CONTRACTS[table]
