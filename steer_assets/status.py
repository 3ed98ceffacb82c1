"""Where each cell of a bench stands: what lies there, how old it is, what it cost. Reads footers, runs nothing."""

from __future__ import annotations

import datetime
import logging
from dataclasses import dataclass
from enum import StrEnum

import polars as pl

from steer_assets.io import footer_of, read_published, table_url
from steer_assets.nodes import Node, Nodes
from steer_assets.partitions import Cell
from steer_assets.steps import is_current
from steer_assets.tables import TableSpec, Work
from steer_core.tables.errors import SteerworksError
from steer_core.tables.files import filesystem
from steer_core.tables.snapshot import table_exists

#: Tables whose rows are answers of a cell, each with tokens and seconds.
ANSWERS = ("responses", "fit_responses", "sweep_responses")


class State(StrEnum):
    """What a person can expect of a cell."""

    IMPOSSIBLE = "impossible"
    ABSENT = "not run"
    UNFINISHED = "unfinished"
    STALE = "out of date"
    CURRENT = "up to date"


@dataclass(frozen=True)
class Status:
    """One cell, as `cells` lists it.

    Attributes:
        cell: the cell.
        state: where it stands.
        why: the table that the state is due to, or why the cell is impossible; empty where it is up to date.
        made: when the newest of its tables was written; None where there is none, or the storage does not say.
        answers: answers that it stands on.
        tokens: tokens written for them.
        seconds: time of the model behind them.
    """

    cell: Cell
    state: State
    why: str
    made: datetime.datetime | None
    answers: int
    tokens: int
    seconds: float


def status_of(cell: Cell, nodes: Nodes, root: str) -> Status:
    """Where a cell stands; tables that all cells share are taken as they lie."""
    impossible = cell.why_impossible()
    if impossible:
        return Status(cell, State.IMPOSSIBLE, impossible, None, 0, 0, 0.0)
    work = Work(cell.bench, root, logging.getLogger(__name__), cell)
    state, why, urls = State.CURRENT, "", []
    for spec in (t for node in nodes.all if node.grid for t in node.tables if t.applies(work)):
        found = [table_url(root, cell.bench.name, name, cell.key) for name in spec.outputs]
        there = [url for url in found if table_exists(url)]
        urls += there
        if state is not State.CURRENT:
            continue
        if len(there) < len(found):
            state, why = State.UNFINISHED, spec.name
        elif not _current(spec, work, nodes):
            state, why = State.STALE, spec.name
    if not urls:
        return Status(cell, State.ABSENT, "", None, 0, 0, 0.0)
    answers, tokens, seconds = _spent(work, nodes)
    return Status(cell, state, why, _newest(urls), answers, tokens, seconds)


def node_is_current(node: Node, work: Work, nodes: Nodes) -> bool:
    """Whether all tables of a node that this cell has are there and follow from what lies there now."""
    return all(_current(spec, work, nodes) for spec in node.tables if spec.applies(work))


def _current(spec: TableSpec, work: Work, nodes: Nodes) -> bool:
    try:
        return is_current(spec, work, nodes)
    except SteerworksError:
        # an input is gone, or its file cannot be read
        return False


def _spent(work: Work, nodes: Nodes) -> tuple[int, int, float]:
    cell, root = work.here, work.root
    answers, tokens, seconds = 0, 0, 0.0
    for name in ANSWERS:
        url = table_url(root, cell.bench.name, name, cell.key)
        # what lies there of an earlier form of the method is nothing that the cell stands on
        if not nodes.maker(name).applies(work) or footer_of(url) is None:
            continue
        try:
            rows = read_published(url, nodes.maker(name).outputs[name])
        except SteerworksError:
            # counted as soon as it is made again; the state says that it must be
            continue
        answers += rows.height
        tokens += int(rows["completion_tokens"].sum())
        seconds += float(rows["seconds"].sum())
    return answers, tokens, seconds


def _newest(urls: list[str]) -> datetime.datetime | None:
    times = []
    for url in urls:
        fs, path = filesystem(url)
        try:
            times.append(fs.modified(path).astimezone(datetime.UTC))
        except NotImplementedError:
            return None
    return max(times)


def listing(found: list[Status], now: datetime.datetime) -> pl.DataFrame:
    """The table that `cells` prints: cell, state, age, answers, tokens, seconds."""
    return pl.DataFrame(
        {
            "cell": [s.cell.key for s in found],
            "state": [s.state + (f": {s.why}" if s.why else "") for s in found],
            "age": ["" if s.made is None else age(now - s.made) for s in found],
            "answers": [s.answers for s in found],
            "tokens": [s.tokens for s in found],
            "model seconds": [round(s.seconds, 1) for s in found],
        },
        schema={
            "cell": pl.String,
            "state": pl.String,
            "age": pl.String,
            "answers": pl.Int64,
            "tokens": pl.Int64,
            "model seconds": pl.Float64,
        },
    )


def age(span: datetime.timedelta) -> str:
    """A time span in its largest unit: `3 d`, `5 h`, `12 min`."""
    minutes = max(0, int(span.total_seconds() // 60))
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 48 * 60 else f"{minutes // (24 * 60)} d"
