"""The review queue of the explorer: what a judge doubts, and a person's word on it."""

from __future__ import annotations

import getpass
from typing import Any

import polars as pl

from schemas.specs import BenchSpec
from steer_assets import review
from steer_assets.partitions import Cell, read_key, valid_cells
from steer_assets.settings import storage_root
from steer_core.evaluation.judges.rulings import ruling
from steer_core.tables.errors import ConfigError
from steer_core.tables.snapshot import table_exists

#: Characters of a name and of a note.
LONGEST_NAME, LONGEST_NOTE = 80, 500
#: Of any draw: who rules names an answer of the cell, however it came to be shown.
_ALL = 10**9


class Review:
    """What waits in the cells of a bench.

    Args:
        bench: the bench.
    """

    def __init__(self, bench: BenchSpec) -> None:
        self.bench = bench

    def cells(self) -> list[str]:
        """Cells whose answers were judged."""
        from steer_assets.io import table_url

        root = storage_root()
        url = [(c.key, table_url(root, self.bench.name, "groundedness", c.key)) for c in valid_cells(self.bench)]
        return [key for key, where in url if table_exists(where)]

    def queue(self, cell: str, spot: int) -> tuple[pl.DataFrame, int]:
        """What waits (`review.queue`)."""
        return review.queue(self._cell(cell), spot)

    def why(self, row: dict[str, Any]) -> str:
        """Why somebody should look."""
        return review.why(row)

    def reviewer(self) -> str:
        """The user, where the system knows one."""
        try:
            return getpass.getuser()
        except (KeyError, OSError):
            return ""

    def rule(self, cell: str, request_id: str, response_id: str, stays: bool | None, by: str, note: str) -> str:
        """Keep a person's word on an answer; returns it in words.

        Raises:
            ConfigError: no such cell or answer, nobody is named, or a note is too long.
        """
        if not by.strip():
            raise ConfigError("a ruling needs a name: fill in who you are")
        for what, text, most in (("name", by, LONGEST_NAME), ("note", note, LONGEST_NOTE)):
            if len(text) > most:
                raise ConfigError(f"a {what} takes {most} characters; this one has {len(text)}")
        here = self._cell(cell)
        rows = review.waiting(here, _ALL, again=True).filter(request_id=request_id, response_id=response_id)
        if rows.height != 1:
            raise ConfigError(f"{cell} has no such answer to request {request_id!r}: reload, it may have been run anew")
        review.kept_rulings(here).append(ruling(rows.row(0, named=True), stays, by, note))
        return {True: "it stays", False: "it does not stay", None: "taken back"}[stays]

    def _cell(self, key: str) -> Cell:
        if key not in self.cells():
            raise ConfigError(f"cell {key!r} was not judged; there are {', '.join(self.cells()) or 'none'}")
        return read_key(self.bench, key)
