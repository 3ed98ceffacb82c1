"""Cells that the playground can ask: what their answers follow from, and their engine, one text at a time.

Cells answer as they do on the probe: by their method, with what it was fitted to, on their model's engine, whose
`max_cost` holds. Answers are kept in a journal of the playground's own.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from dataclasses import replace

import polars as pl

from schemas import Responses
from schemas.specs import BenchSpec
from steer_assets.assets import nodes_of
from steer_assets.assets.calling import asking, method_of
from steer_assets.compute import let_go
from steer_assets.devices import DEVICES
from steer_assets.partitions import Cell, read_key, valid_cells
from steer_assets.steps import placed, snapshot
from steer_assets.tables import Work
from steer_assets.vector_export import of_the_part
from steer_core.generation.run import Drafts, Run
from steer_core.tables.errors import ConfigError
from steer_core.tables.journal import Journal
from steer_core.tables.snapshot import table_exists

#: Folder below a bench's with the answers that were written for what was tried.
ANSWERS = "playground"
#: Seconds that a text waits for a device that somebody else has; and that weights are kept for the next text.
PATIENCE, IDLE = 20.0, 90.0
#: Devices are the process's: of all benches one text is asked at a time.
_ONE = threading.Lock()


class Askable:
    """Asks cells of a bench, one after the other: they share devices.

    Args:
        bench: the bench.
        root: storage root.
    """

    def __init__(self, bench: BenchSpec, root: str) -> None:
        self.bench, self.root = bench, root
        self._lock = _ONE
        self._resting = threading.Timer(0, lambda: None)
        self._log = logging.getLogger("steerworks.playground")

    def cells(self) -> list[str]:
        """Cells that can be asked: possible ones that have answered the probe, so that what they learn is there."""
        asked = [c for c in valid_cells(self.bench) if c.model.kind != "elsewhere"]
        return [c.key for c in asked if table_exists(self._url("outcomes", c))]

    def concepts(self) -> dict[str, tuple[list[str], str]]:
        """Cell with a vector -> its concepts, and the unit of its strengths."""
        found = {}
        for cell in valid_cells(self.bench):
            part = next(iter(cell.method.of_kind("vector")), None)
            if part is not None and table_exists(self._url("vectors", cell)):
                rows = of_the_part(self._frame("vectors", cell).filter(pl.col("control") == ""), cell)
                found[cell.key] = (
                    rows["concept"].unique(maintain_order=True).to_list(),
                    str(getattr(part, "unit", "")),
                )
        return found

    @contextlib.contextmanager
    def _asking(self, cell: Cell, drafts: Drafts | None = None) -> Iterator[tuple[Run, Work, dict[str, pl.DataFrame]]]:
        """A run with the journal of the playground, and the tables that the cell's answers follow from."""
        work = Work(self.bench, self.root, self._log, cell)
        nodes = nodes_of(self.bench)
        spec = nodes.maker("responses")
        heard(drafts)
        with self._lock:
            heard(drafts)
            inputs = {a: snapshot(a, spec, work, nodes) for a in spec.reads(self.bench)}
            frames = {a: placed(s.frame(), s.contract, work) for a, s in inputs.items()}
            journal = Journal(self._journal(ANSWERS, f"model={cell.model.name}"), Responses)
            if not method_of(work).traits.calls_model:
                yield Run(journal, None, seed=self.bench.seed), work, frames
                return
            self._resting.cancel()
            DEVICES.who, DEVICES.patience, DEVICES.keep = "the playground", PATIENCE, True
            try:
                with asking(work, "answers") as run:
                    heard(drafts)
                    yield replace(run, journal=journal, progress=None, drafts=drafts), work, frames
            finally:
                # the next text finds the weights loaded; whoever waits for the device gets it soon
                self._resting = threading.Timer(IDLE, self.rest)
                self._resting.daemon = True
                self._resting.start()

    def rest(self) -> None:
        """Drop the weights and free the device."""
        self._resting.cancel()
        with self._lock:
            let_go()

    def _cell(self, key: str) -> Cell:
        if key not in self.cells():
            raise ConfigError(f"cell {key!r} cannot be asked; there are {', '.join(self.cells()) or 'none yet'}")
        return read_key(self.bench, key)

    def _frame(self, table: str, cell: Cell) -> pl.DataFrame:
        nodes = nodes_of(self.bench)
        work = Work(self.bench, self.root, self._log, cell)
        found = snapshot(table, nodes.maker(table), work, nodes)
        return found.frame()

    def _url(self, table: str, cell: Cell) -> str:
        from steer_assets.io import table_url

        return table_url(self.root, self.bench.name, table, cell.key)

    def _journal(self, *parts: str) -> str:
        return "/".join([self.root.rstrip("/"), self.bench.name, *parts])


def heard(drafts: Drafts | None) -> None:
    """Go no further for somebody who has gone: not every engine tells what it writes."""
    if drafts is not None:
        drafts(-1, "")
