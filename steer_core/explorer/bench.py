"""A bench's tables as they stand on storage now: which there are, and columns of them, kept until a file changes."""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import polars as pl

from schemas.contract import CONTRACTS, Contract
from schemas.specs import BenchSpec, GoalSpec
from steer_core.explorer.look import Look, mark_of
from steer_core.tables.errors import TableError
from steer_core.tables.files import filesystem, join
from steer_core.tables.parts import read_columns
from steer_core.tables.survey import TABLE

#: Bytes of columns that are kept; the least recently used go first.
KEPT = 2_000_000_000
#: Most files that are read at a time.
READERS = 8

Item = TypeVar("Item")
Found = TypeVar("Found")


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
    #: What is looked at -> the tables that the last look at it asked for.
    _habits: dict[str, frozenset[str]] = field(default_factory=dict)

    @contextlib.contextmanager
    def one_look(self, what: str = "") -> Iterator[None]:
        """Inside, each file is looked at once, however often this thread asks for it: a view is of one moment.

        On a store each look is a request.
        """
        look = self._seen.look = Look(join(self.root, self.name), self._habits.get(what, ()))
        try:
            yield
        finally:
            self._seen.look = None
            self._habits[what] = frozenset(look.asked)

    @property
    def _look(self) -> Look:
        """That of this moment; outside of one each question is a moment of its own."""
        return getattr(self._seen, "look", None) or Look(join(self.root, self.name))

    def side_by_side(self, work: Callable[[Item], Found], items: Sequence[Item]) -> list[Found]:
        """What `work` finds for each item, in their order; some at a time, all in the look of this moment.

        On a store most of a read is waiting.
        """
        look = self._look

        def one(item: Item) -> Found:
            before, self._seen.look = getattr(self._seen, "look", None), look
            try:
                return work(item)
            finally:
                self._seen.look = before

        if len(items) < 2:
            return [one(item) for item in items]
        with ThreadPoolExecutor(min(READERS, len(items))) as pool:
            return list(pool.map(one, items))

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
        found = [f"{method}|{model}" for method, model in self._look.cells(table)]
        known = [f"{method}|{model}" for model in self.spec.models for method in self.spec.methods]
        place = {key: n for n, key in enumerate(known)}
        return sorted(found, key=lambda key: (place.get(key, len(known)), key))

    def columns(self, table: str, columns: Sequence[str], cell: str = "") -> pl.DataFrame:
        """Columns of a table, unchecked, from memory where its file has not changed; no rows where there is none.

        Raises:
            TableError: the file is damaged, or of another contract.
            MovedError: it was published anew meanwhile: make the view again.
        """
        return self._read(table, cell, self.contract(table), columns)

    def rows_at(self, folder: str, contract: type[Contract], cell: str = "") -> pl.DataFrame:
        """All columns of a table whose folder is not called as its contract is."""
        return self._read(folder, cell, contract, contract.names())

    def _read(self, table: str, cell: str, contract: type[Contract], columns: Sequence[str]) -> pl.DataFrame:
        url = self.url(table, cell)
        mark = self._look.mark(table, url)
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
        if mark_of(url) != mark:
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
        return self.columns(table, self.contract(table).names(), cell)

    def marks(self, tables: Sequence[str], cell: str = "") -> tuple[str, ...]:
        """What tells one state of some tables from another; empty for those that are not there."""
        look = self._look
        return tuple(look.mark(table, self.url(table, cell)) for table in tables)

    @property
    def axes(self) -> list[str]:
        """Goals in the order of the goal space."""
        space = self.columns("goal_space", ["position", "goal"])
        return space.sort("position")["goal"].to_list() or list(self.spec.goals)

    @staticmethod
    def contract(table: str) -> type[Contract]:
        """The contract of a table.

        Raises:
            TableError: there is none.
        """
        if table not in CONTRACTS:
            raise TableError(f"there is no contract {table!r}")
        return CONTRACTS[table]
