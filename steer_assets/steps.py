"""Run one declared table: find its inputs, skip it where it follows from the same, publish it. Knows no Dagster."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import polars as pl

from schemas.contract import Contract
from schemas.digest import digest_json
from steer_assets import figures, progress
from steer_assets.compute import drop_weights
from steer_assets.devices import DEVICES
from steer_assets.io import Part, Snapshot, footer_of, read_published, table_url
from steer_assets.partitions import Cell, all_cells, held_against
from steer_assets.settings import registry
from steer_assets.tables import TableSpec, Work
from steer_core.generation.meter import metering
from steer_core.tables.conditional import stamp
from steer_core.tables.errors import ContractError, SteerworksError, TableError
from steer_core.tables.footer import Footer
from steer_core.tables.leases import Held, lease
from steer_core.tables.snapshot import publish_table, table_exists
from steer_core.tables.validation import check

#: Set while everything is made anew, whether or not it is up to date: see `making_anew`.
_anew: list[bool] = []

#: Folder below a bench's, hidden, in which it is agreed who makes a table.
LEASES = ".leases"

WRITTEN, UNCHANGED, NOT_HERE = "written", "unchanged", "not here"


class Catalog(Protocol):
    """Who makes which table."""

    def maker(self, table: str) -> TableSpec:
        """The declaration that a table is an output of."""

    def node_of(self, table: str) -> str:
        """The node that a person materializes to get it."""


@dataclass(frozen=True)
class Fact:
    """What became of one table: `content` and `url` are empty for a table that the cell does not have."""

    table: str
    status: str
    rows: int = 0
    url: str = ""
    content: str = ""


@dataclass(frozen=True)
class Done:
    """A step that was run or skipped: facts of its tables, their rows, and what it took where it was run."""

    facts: tuple[Fact, ...]
    frames: Mapping[str, pl.DataFrame]
    figures: Mapping[str, float] = field(default_factory=dict)


class BrokenContractError(SteerworksError):
    """A body made rows that break the contract of the table `table`; nothing of the step was written."""

    def __init__(self, table: str, error: ContractError) -> None:
        super().__init__(f"{error}\nThis table was not written.")
        self.table = table


def run_step(spec: TableSpec, work: Work, catalog: Catalog) -> Done:
    """Bring the tables of one declaration up to date.

    Raises:
        SteerworksError: an input is missing, the body refuses, or what it made breaks its contract.
    """
    if not spec.applies(work):
        return Done(tuple(Fact(name, NOT_HERE) for name in spec.outputs), {})
    cell = work.cell.key if work.cell else None
    urls = {name: table_url(work.root, work.bench.name, name, cell) for name in spec.outputs}
    try:
        inputs = {a: snapshot(a, spec, work, catalog) for a in spec.reads(work.bench)}
        footers = _footers(spec, work, inputs)
        frames = None if _anew else _published(spec, work, footers, urls)
        if frames is not None:
            return _unchanged(frames, urls)
        with _lease(spec, work) as held:
            if held.waited:
                # while it waited others may have made the inputs again, too
                inputs = {a: snapshot(a, spec, work, catalog) for a in spec.reads(work.bench)}
                footers = _footers(spec, work, inputs)
            if not _anew and (frames := _published(spec, work, footers, urls)) is not None:
                # who was faster has done it
                return _unchanged(frames, urls)
            stamps = {name: stamp(url) for name, url in urls.items()}
            began = time.time()
            progress.begins(spec.name)
            frames_in = {
                a: placed(s.frame(cells=a in spec.fan_in, narrow=spec.narrow.get(a, _whole)), s.contract, work)
                for a, s in inputs.items()
            }
            with metering() as meter:
                made = spec.body(work, **frames_in)
            frames = dict(zip(spec.outputs, made if isinstance(made, tuple) else (made,), strict=True))
            held.check()
            facts = tuple(_publish(spec, frames, footers, urls, stamps))
        # the tables stand: whoever waits for the lease need not wait for this
        rows, waited = sum(f.rows for f in facts), held.waited
        found = figures.note(
            work.bench, work.root, spec.name, cell or "", began=began, waited=waited, rows=rows, meter=meter
        )
        return Done(facts, frames, found)
    except BrokenContractError:
        raise
    except SteerworksError as error:
        raise SteerworksError(f"{spec.name}: {error}") from error


def _whole(rows: pl.DataFrame) -> pl.DataFrame:
    return rows


def _unchanged(frames: Mapping[str, pl.DataFrame], urls: Mapping[str, str]) -> Done:
    return Done(tuple(Fact(n, UNCHANGED, f.height, urls[n], _content(urls[n])) for n, f in frames.items()), frames)


def _lease(spec: TableSpec, work: Work) -> contextlib.AbstractContextManager[Held]:
    """Of all processes that want this table of this cell, on whatever machine, one makes it."""
    cell = [f"model={work.cell.model.name}", f"method={work.cell.method.name}"] if work.cell else []

    def say(line: str) -> None:
        work.log.info("%s: %s", spec.name, line)
        progress.says(f"{spec.name}: {line}")

    def waiting() -> None:
        # who is waited for may want the device that is kept here
        drop_weights()
        DEVICES.free_kept()

    who = f"{DEVICES.who} (process {os.getpid()} of {socket.gethostname()})"
    return lease(work.url(LEASES, spec.name, *cell), who, say=say, waiting=waiting)


def placed(rows: pl.DataFrame, contract: type[Contract], work: Work) -> pl.DataFrame:
    """A table whose places below the bench's folder are whole: a storage root may be moved, and tables stay true."""
    below = pl.lit(work.url() + "/")
    return rows.with_columns(
        pl.when(pl.col(c).str.contains("^(/|[a-z0-9+]+://)")).then(c).otherwise(below + pl.col(c)).alias(c)
        for c in contract.places
    )


def is_current(spec: TableSpec, work: Work, catalog: Catalog) -> bool:
    """Whether the tables of a declaration follow from what lies there now, by their footers alone.

    Raises:
        TableError: an input is missing or cannot be read.
    """
    cell = work.cell.key if work.cell else None
    inputs = {a: snapshot(a, spec, work, catalog) for a in spec.reads(work.bench)}
    found = {n: footer_of(table_url(work.root, work.bench.name, n, cell)) for n in spec.outputs}
    footers = _footers(spec, work, inputs)
    return all(f is not None and f.fingerprint == footers[n].fingerprint for n, f in found.items())


@contextlib.contextmanager
def making_anew() -> Iterator[None]:
    """Make every table again for a while, up to date or not; answers are still taken from the journal."""
    _anew.append(True)
    try:
        yield
    finally:
        _anew.pop()


def snapshot(argument: str, spec: TableSpec, work: Work, catalog: Catalog) -> Snapshot:
    """An input of a declaration, from storage.

    Raises:
        TableError: it is not there; says what to materialize first.
    """
    maker = catalog.maker(argument)
    contract = maker.outputs[argument]
    kind = spec.fan_in.get(argument)
    parts = []
    for cell in _cells(kind, work) if maker.grid else [None]:
        there = work.of(cell)
        key = cell.key if cell else ""
        url = table_url(work.root, work.bench.name, argument, key or None)
        own = kind != "grid" and (cell is None or cell == work.cell)
        if not own and not table_exists(url):
            continue
        if not maker.applies(there):
            # what lies there is of an earlier form of the method
            parts += [Part.absent(key, contract)] if own else []
        elif table_exists(url):
            parts.append(Part.published(key, url))
        elif argument in spec.lenient:
            parts.append(Part.absent(key, contract))
        else:
            raise TableError(_missing(argument, catalog.node_of(argument), work, cell))
    return Snapshot(tuple(parts), contract)


def _cells(kind: str | None, work: Work) -> Sequence[Cell]:
    if kind == "grid":
        return sorted(all_cells(work.bench), key=lambda c: c.key)
    here = work.here
    others = controls_of(here) if kind == "controls" else compared_with(here) if kind == "compared" else []
    return sorted([here, *others], key=lambda c: c.key)


def controls_of(cell: Cell) -> list[Cell]:
    """The cells of the same model that a cell is held against, in the order in which they can be run."""
    methods = [registry().method(m) for m in held_against(cell.bench, cell.method.name)]
    return [Cell(cell.bench, cell.model, m) for m in methods]


def compared_with(cell: Cell) -> list[Cell]:
    """The cells of the same model whose answers a judge holds beside a cell's."""
    others = [registry().method(m) for m in cell.bench.validated_against if m != cell.method.name]
    return [Cell(cell.bench, cell.model, m) for m in others]


def missing_controls(cell: Cell, root: str) -> list[str]:
    """Keys of the cells that a cell is held against and that have no scores yet."""
    return [
        c.key
        for c in controls_of(cell)
        if c.why_impossible() is None and not table_exists(table_url(root, cell.bench.name, "steerability", c.key))
    ]


def _missing(table: str, node: str, work: Work, cell: Cell | None) -> str:
    of_cell = f" of cell {cell.key}" if cell else ""
    partition = f" --partition '{cell.key}'" if cell else ""
    asset = f"{work.bench.name}/{node}"
    return (
        f"there is no table {table!r}{of_cell} yet: materialize {asset}{of_cell} first "
        f"(dagster asset materialize -m steer_assets.definitions --select 'key:\"{asset}\"'{partition})"
    )


def _footers(spec: TableSpec, work: Work, inputs: Mapping[str, Snapshot]) -> dict[str, Footer]:
    digests = {f"{a}[{k}]" if k else a: d for a, s in inputs.items() for k, d in s.digests.items()}
    spec_hash = digest_json([spec.name, spec.spec(work)])
    return {
        name: Footer(
            contract=contract.table(),
            contract_version=contract.version(),
            code_version=spec.version,
            spec_hash=spec_hash,
            seed=work.bench.seed,
            inputs=digests,
        )
        for name, contract in spec.outputs.items()
    }


def _published(
    spec: TableSpec, work: Work, footers: Mapping[str, Footer], urls: Mapping[str, str]
) -> dict[str, pl.DataFrame] | None:
    """The published tables, if they follow from exactly this; None where there is work to do."""
    frames = {}
    for name, url in urls.items():
        footer = footer_of(url)
        if footer is None or footer.fingerprint != footers[name].fingerprint:
            return None
        try:
            frames[name] = read_published(url, spec.outputs[name])
        except (TableError, ContractError):
            # damaged or edited: made again
            return None
    return frames if spec.intact is None or spec.intact(work, frames) else None


def _publish(
    spec: TableSpec,
    frames: Mapping[str, pl.DataFrame],
    footers: Mapping[str, Footer],
    urls: Mapping[str, str],
    stamps: Mapping[str, str],
) -> list[Fact]:
    first = next(iter(spec.outputs))
    for name, contract in spec.outputs.items():
        # the first is checked as it is published, before anything is written
        if name != first:
            _check(name, frames[name], contract)
    facts = []
    for name, contract in spec.outputs.items():
        try:
            footer = publish_table(frames[name], contract, urls[name], footers[name], stamps[name])
        except ContractError as error:
            raise BrokenContractError(name, error) from error
        facts.append(Fact(name, WRITTEN, frames[name].height, urls[name], footer.content))
    return facts


def _check(name: str, frame: pl.DataFrame, contract: type[Contract]) -> None:
    try:
        check(frame, contract)
    except ContractError as error:
        raise BrokenContractError(name, error) from error


def _content(url: str) -> str:
    footer = footer_of(url)
    return footer.content if footer else ""
