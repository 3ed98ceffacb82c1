"""The answers behind one table, written by several processes: each a share, into the journal that all of them have."""

from __future__ import annotations

from steer_assets.steps import Catalog, is_current, placed, run_step, snapshot
from steer_assets.tables import TableSpec, Work
from steer_core.generation.shares import Share, ShareWrittenError, writing

#: The table whose answers are worth it: all arms of a sweep.
SHARED = "sweep_responses"


def write_share(work: Work, catalog: Catalog, share: Share, table: str = SHARED) -> int:
    """Write a share of the answers behind a table; returns how many were lacking.

    The tables of the cell that it reads are brought up to date first; of several who write shares one makes them.
    Nothing is published here: whoever makes the table finds the answers in the journal.

    Args:
        work: the cell.
        catalog: who makes which table.
        share: which.
        table: a table of the grid.

    Raises:
        SteerworksError: an input is missing, or a body refuses.
    """
    spec = catalog.maker(table)
    if not spec.applies(work):
        return 0
    _make_inputs(spec, work, catalog)
    if is_current(spec, work, catalog):
        return 0
    inputs = {a: snapshot(a, spec, work, catalog) for a in spec.reads(work.bench)}
    frames = {a: placed(s.frame(), s.contract, work) for a, s in inputs.items()}
    try:
        with writing(share):
            spec.body(work, **frames)
    except ShareWrittenError as written:
        return written.rows
    # every item has its answers given: there is nothing to write
    return 0


def _make_inputs(spec: TableSpec, work: Work, catalog: Catalog) -> None:
    for before in {m.name: m for m in (catalog.maker(a) for a in spec.reads(work.bench))}.values():
        if before.grid:
            _make_inputs(before, work, catalog)
            run_step(before, work, catalog)
