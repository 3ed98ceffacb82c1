"""One look at a bench's files: what tells each state from another, and which cells have a table.

On a disk each file is asked for its state, which takes microseconds. On a store each question is a request that takes
tens of milliseconds, and one listing answers for all cells of a table.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from steer_core.tables.conditional import seen_as
from steer_core.tables.files import filesystem, is_local, join

_CELL = re.compile(r"/model=(?P<model>[^/]+)/method=(?P<method>[^/]+)/part\.parquet$")


def mark_of(url: str) -> str:
    """The mark of a file, asked of the file itself; empty where there is none."""
    fs, path = filesystem(url)
    try:
        return seen_as(fs.info(path))
    except FileNotFoundError:
        return ""


class Look:
    """What stands there now, each thing asked for once.

    Args:
        root: of the bench, any fsspec URL.
        expected: tables that are likely to be asked for: on a store they are listed at once, with the first question.
    """

    def __init__(self, root: str, expected: Iterable[str] = ()) -> None:
        self._root, self._expected = root, frozenset(expected)
        self._marks: dict[str, str] = {}
        self._listed: dict[str, dict[str, Any]] = {}
        #: Tables that were listed because somebody asked for them.
        self.asked: set[str] = set()

    def mark(self, table: str, url: str) -> str:
        """What tells one state of a table's file from another; empty where there is none."""
        if url not in self._marks:
            fs, path = filesystem(url)
            if is_local(fs):
                self._marks[url] = mark_of(url)
            else:
                info = self._files(table).get(path)
                self._marks[url] = "" if info is None else seen_as(info)
        return self._marks[url]

    def cells(self, table: str) -> list[tuple[str, str]]:
        """(method, model) of each cell that has a table of its own, in no order."""
        matches = (_CELL.search(str(file)) for file in self._files(table))
        return [(m["method"], m["model"]) for m in matches if m is not None]

    def _files(self, table: str) -> dict[str, Any]:
        self.asked.add(table)
        if table not in self._listed:
            ahead = [] if is_local(filesystem(self._root)[0]) else self._expected - {table, *self._listed}
            with ThreadPoolExecutor(1 + len(ahead)) as pool:
                listed = {name: pool.submit(self._list, name) for name in (table, *ahead)}
                self._listed |= {name: found.result() for name, found in listed.items()}
        return self._listed[table]

    def _list(self, table: str) -> dict[str, Any]:
        fs, path = filesystem(join(self._root, table))
        fs.invalidate_cache(path)
        return dict(fs.find(path, detail=True))
