"""Bring cells of a bench up to date in this process, through Dagster: what the demo and the command line do."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
from dagster._core.instance.ref import InstanceRef

from schemas.specs import BenchSpec
from steer_assets import interrupts
from steer_assets.bar import Bar
from steer_assets.io import table_url
from steer_assets.partitions import Cell
from steer_assets.preflight import check_bench
from steer_assets.progress import listening
from steer_assets.settings import dagster_home, storage_root
from steer_core.tables.files import join
from steer_core.tables.snapshot import table_exists

#: Without these no cell can be run; a cell without a vector needs none of the other shared nodes.
NEEDED = ("seed_corpus", "goal_mappings", "probes")


class StoppedError(Exception):
    """Somebody pressed Ctrl-C."""


def run_cells(
    bench: BenchSpec,
    cells: Sequence[Cell],
    around_cells: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
) -> int:
    """Materialize what the cells share, the cells, the leaderboard; returns an exit code.

    Args:
        bench: the bench.
        cells: which.
        around_cells: a context that each cell is run in, and nothing else.

    Raises:
        ConfigError: files or models that the configuration names are not there, all of them at once.
        StoppedError: Ctrl-C.
    """
    check_bench(bench, cells, reach=True)
    from steer_assets.nodes import BOARD, CELLS, SHARED

    groups = groups_of(bench)
    start = time.monotonic()
    runner = Runner(bench.name)
    steps = 2 + len(cells)
    failed = runner.run(f"[1/{steps}] corpus, goal space, probes", groups[SHARED], None)
    ready, ok = not failed & set(NEEDED), not failed
    for n, cell in enumerate(cells, 2):
        why = cell.why_impossible()
        if why:
            print(f"[{n}/{steps}] {cell.key}: left out, {why}", flush=True)
        elif ready:
            # one red cell does not keep the others from being measured
            with around_cells():
                ok = not runner.run(f"[{n}/{steps}] {cell.key}", groups[CELLS], cell) and ok
    return 0 if close(bench, cells, runner, groups[BOARD], f"[{steps}/{steps}] leaderboard", ok, start) else 1


def groups_of(bench: BenchSpec) -> dict[str, list[str]]:
    """Names of the nodes of each group."""
    from steer_assets.assets import nodes_of
    from steer_assets.nodes import BOARD, CELLS, SHARED

    return {g: [n.name for n in nodes_of(bench).all if n.group == g] for g in (SHARED, CELLS, BOARD)}


def close(
    bench: BenchSpec, cells: Sequence[Cell], runner: Runner, board: list[str], title: str, ok: bool, start: float
) -> bool:
    """After the cells: the leaderboard, and where the pages lie; whether all came out."""
    if table_exists(table_url(storage_root(), bench.name, "requests", None)):
        ok = not runner.run(title, board, None) and ok
    if ok:
        print(f"\nDone in {time.monotonic() - start:.0f} s.")
    _list_pages(bench.name, cells)
    return ok


def page_of(bench: str, cell: Cell | None) -> str:
    """Where the page of a cell lies, or without a cell the leaderboard's; whether or not it is there."""
    folders = ("report", f"model={cell.model.name}", f"method={cell.method.name}") if cell else ("leaderboard_page",)
    return join(storage_root(), bench, *folders, "report.html")


def _list_pages(bench: str, cells: Sequence[Cell]) -> None:
    pages = {c.key: page_of(bench, c) for c in cells} | {"leaderboard": page_of(bench, None)}
    there = {k: page for k, page in pages.items() if table_exists(page)}
    print("\n".join(["", "Reports:", *(f"  {k:32} {page}" for k, page in there.items())]) if there else "", flush=True)


@dataclass(frozen=True)
class Outcome:
    """What came of a run.

    Attributes:
        failed: nodes that failed.
        written: tables.
        unchanged: tables.
        seconds: the run's.
        messages: of the failures, a line each.
    """

    failed: frozenset[str]
    written: int
    unchanged: int
    seconds: float
    messages: tuple[str, ...]


class Runner:
    """Runs nodes in this process and says what each run did."""

    def __init__(self, bench: str) -> None:
        from steer_assets.build import build_definitions

        defs = build_definitions(dg.in_process_executor, location="demo")
        self.job = defs.resolve_implicit_global_asset_job_def()
        self.bench = bench
        self.instance = _instance()
        # errors are printed below, in one line
        logging.getLogger("dagster").setLevel(logging.CRITICAL)

    def run(self, title: str, names: list[str], cell: Cell | None) -> set[str]:
        """Materialize nodes and print what came of it; returns the names of those that failed."""
        with Bar(title) as bar, listening(bar):
            found = self.execute(names, cell)
        counts = f"{found.written} tables written, {found.unchanged} unchanged ({found.seconds:.1f} s)"
        bar.ends(f"FAILED after {found.seconds:.1f} s; {counts}" if found.failed else counts)
        for line in found.messages:
            print(f"  {line}", flush=True)
        return set(found.failed)

    def execute(self, names: list[str], cell: Cell | None) -> Outcome:
        """Materialize nodes.

        Raises:
            StoppedError: Ctrl-C.
        """
        start = time.monotonic()
        with interrupts.counting():
            result = self.job.execute_in_process(
                instance=self.instance,
                asset_selection=[dg.AssetKey([self.bench, name]) for name in names],
                partition_key=cell.key if cell else None,
                raise_on_error=False,
                run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            )
            stopped = interrupts.pressed()
        failures = [e for e in result.all_events if e.is_step_failure]
        if stopped or any(_interrupted(e) for e in failures) or (not result.success and not failures):
            raise StoppedError
        records = [
            r.data["status"]
            for e in result.get_asset_materialization_events()
            for r in e.materialization.metadata["tables"].records
        ]
        messages = []
        for event in failures:
            said, error = event.step_failure_data.user_failure_data, event.step_failure_data.error
            messages.append(f"{event.step_key}: {said.description if said and said.description else error}")
        prefix = f"{self.bench.replace('-', '_').replace('.', '_')}__"
        return Outcome(
            frozenset(str(e.step_key).removeprefix(prefix) for e in failures),
            records.count("written"),
            records.count("unchanged"),
            time.monotonic() - start,
            tuple(messages),
        )


def _instance() -> dg.DagsterInstance:
    """The instance of `DAGSTER_HOME`, without the capture of what is printed: it would take the terminal away."""
    home = os.environ.setdefault("DAGSTER_HOME", str(dagster_home()))
    Path(home).mkdir(parents=True, exist_ok=True)
    nothing = {"module": "dagster._core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"}
    return dg.DagsterInstance.from_ref(InstanceRef.from_dir(home, overrides={"compute_logs": nothing}))


def _interrupted(event: dg.DagsterEvent) -> bool:
    error = event.step_failure_data.error
    names = {error.cls_name, error.cause.cls_name if error.cause else None} if error else set()
    return bool(names & {"DagsterExecutionInterruptedError", "KeyboardInterrupt"})
