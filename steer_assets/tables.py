"""Declare a table: a plain function on tables, and what its rows follow from.

    @table(SteerabilitySummary, version=VERSION, spec=lambda work: work.bench.bootstrap)
    def steerability_summary(work, steerability): ...

The names of its arguments after `work` are the tables it reads. `steps` runs it when what it follows from has changed;
`nodes` puts several together as one Dagster asset.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import dagster as dg
import polars as pl

from schemas.contract import Contract
from schemas.responses import Responses
from schemas.specs import BenchSpec
from steer_assets.partitions import Cell
from steer_assets.progress import Reporter
from steer_core.tables.files import join
from steer_core.tables.journal import Journal


@dataclass(frozen=True)
class Work:
    """What a body is given besides its tables.

    Attributes:
        bench: the bench.
        root: storage root.
        log: the run's logger.
        cell: model and method, for tables of the grid.
    """

    bench: BenchSpec
    root: str
    log: Any
    cell: Cell | None = None

    @property
    def here(self) -> Cell:
        """The cell of a grid table."""
        assert self.cell is not None
        return self.cell

    @property
    def journal(self) -> Journal:
        """Answers of the cell's model on this bench, whichever method asked."""
        return Journal(self.url("journal", f"model={self.here.model.name}"), Responses)

    def url(self, *parts: str) -> str:
        """A URL below the bench's folder."""
        return join(self.root, self.bench.name, *parts)

    def of(self, cell: Cell | None) -> Work:
        """The same work for another cell."""
        return replace(self, cell=cell)

    def progress(self, what: str) -> Reporter:
        """Takes (done, total) as the work goes on: a line in the run's log now and then, and the demo's bar."""
        return Reporter(self.log, self.here.key, what)


@dataclass(frozen=True)
class Science:
    """A check on what the rows say; `judge` returns (passed, metadata), or None where the check does not apply.

    Where one that is `blocking` fails, nothing that reads the table is made.
    """

    name: str
    description: str
    judge: Callable[[Work, Mapping[str, pl.DataFrame]], tuple[bool, dict[str, Any]] | None]
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR
    blocking: bool = False


@dataclass(frozen=True)
class TableSpec:
    """A declared table (or several that one body writes); `table` says what the fields are."""

    name: str
    outputs: Mapping[str, type[Contract]]
    body: Callable[..., Any]
    version: str
    spec: Callable[[Work], Any]
    grid: bool
    gpu: bool
    kinds: frozenset[str]
    fan_in: Mapping[str, str]
    narrow: Mapping[str, Callable[[pl.DataFrame], pl.DataFrame]]
    lenient: frozenset[str]
    applies: Callable[[Work], bool]
    science: tuple[Science, ...]
    metadata: Callable[[Work, Mapping[str, pl.DataFrame]], dict[str, Any]] | None
    intact: Callable[[Work, Mapping[str, pl.DataFrame]], bool] | None
    reads: Callable[[BenchSpec], tuple[str, ...]]

    @property
    def description(self) -> str:
        """What the body's docstring says."""
        return inspect.getdoc(self.body) or ""


def table(
    *contracts: type[Contract],
    version: str,
    spec: Callable[[Work], Any] = lambda work: None,
    names: tuple[str, ...] | None = None,
    grid: bool = False,
    gpu: bool = False,
    kinds: tuple[str, ...] = (),
    fan_in: Mapping[str, str] | None = None,
    narrow: Mapping[str, Callable[[pl.DataFrame], pl.DataFrame]] | None = None,
    lenient: tuple[str, ...] = (),
    applies: Callable[[Work], bool] = lambda work: True,
    science: tuple[Science, ...] = (),
    metadata: Callable[[Work, Mapping[str, pl.DataFrame]], dict[str, Any]] | None = None,
    intact: Callable[[Work, Mapping[str, pl.DataFrame]], bool] | None = None,
    also: Callable[[BenchSpec], tuple[str, ...]] = lambda bench: (),
) -> Callable[[Callable[..., Any]], TableSpec]:
    """Declare a table.

    Args:
        contracts: contracts of the outputs, in the order in which the body returns them.
        version: code version: raised when the same inputs give other rows.
        spec: the part of the configuration that the rows follow from (anything JSON can hold).
        names: table names; by default the function's name, or the contracts' for several outputs.
        grid: one table a cell.
        gpu: may call a model.
        kinds: further Dagster kinds.
        fan_in: argument -> `controls` (own cell and controls), `compared` (own cell and those that a judge compares it
            with) or `grid` (all cells); missing cells are left out, and the frame has columns method and model.
        narrow: argument -> what the body needs of each cell's rows: of all cells of a large bench nothing else is kept.
        lenient: arguments that may be missing altogether: the body then gets no rows.
        applies: whether this cell has such a table at all; where not, nothing is written, and whoever reads it gets no
            rows.
        science: checks on the rows.
        metadata: metadata from the rows.
        intact: whether files beside the table are still there.
        also: further tables that the body reads, as keyword arguments: those that depend on a bench's kinds of parts.
    """

    def declare(body: Callable[..., Any]) -> TableSpec:
        parameters = list(inspect.signature(body).parameters.values())[1:]
        named = tuple(p.name for p in parameters if p.kind is not p.VAR_KEYWORD)
        called = names or ((body.__name__,) if len(contracts) == 1 else tuple(c.table() for c in contracts))
        return TableSpec(
            name=body.__name__,
            outputs=dict(zip(called, contracts, strict=True)),
            body=body,
            version=version,
            spec=spec,
            grid=grid,
            gpu=gpu,
            kinds=frozenset(kinds),
            fan_in=fan_in or {},
            narrow=narrow or {},
            lenient=frozenset(lenient),
            applies=applies,
            science=science,
            metadata=metadata,
            intact=intact,
            reads=lambda bench: tuple(dict.fromkeys((*named, *also(bench)))),
        )

    return declare
