"""`make demo`: the whole pipeline of a bench, cell by cell, in one process, through Dagster.

Runs land in the same instance that `make dev` shows. What is up to date is not done again.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time

import dagster as dg

from steer_assets.partitions import Cell, all_cells
from steer_assets.settings import registry, storage_root
from steer_core.tables.errors import SteerworksError
from steer_core.tables.files import join

#: What the demo runs unless told otherwise: the two controls, a prompt, and a vector.
METHODS = ("copy", "rewrite", "direct", "vector-mean-difference")


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m steer_assets.demo", description=__doc__)
    parser.add_argument("--bench", default="tales", help="bench to run (default: %(default)s)")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), metavar="METHOD", help="methods, or `all`")
    options = parser.parse_args(arguments)
    try:
        return run(options.bench, options.methods)
    except SteerworksError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def run(bench_name: str, methods: list[str]) -> int:
    """Materialize a bench: shared tables, the cells, the leaderboard."""
    bench = registry().bench(bench_name)
    for method in methods:
        if method != "all" and method not in bench.methods:
            raise SteerworksError(f"bench {bench.name!r} has no method {method!r}; it has {', '.join(bench.methods)}")
    cells = [c for c in all_cells(bench) if "all" in methods or c.method.name in methods]
    from steer_assets.assets import ALL
    from steer_assets.definitions import defs

    shared = [s for s in ALL if not s.grid and not s.fan_in and s.name != "leaderboard_page"]
    grid = [s for s in ALL if s.grid]
    last = [s for s in ALL if s.name in ("leaderboard", "leaderboard_page")]
    start = time.monotonic()
    runner = _Runner(defs, bench_name)
    steps = 2 + len(cells)
    ready = ok = runner.run(f"[1/{steps}] corpus, goal space, probes", shared, None)
    for n, cell in enumerate(cells, 2):
        why = cell.why_impossible()
        if why:
            print(f"[{n}/{steps}] {cell.key}: left out, {why}", flush=True)
        elif ready:
            # one red cell does not keep the others from being measured
            ok = runner.run(f"[{n}/{steps}] {cell.key}", grid, cell) and ok
    ok = ready and runner.run(f"[{steps}/{steps}] leaderboard", last, None) and ok
    if not ok:
        return 1
    print(f"\nDone in {time.monotonic() - start:.0f} s.\n\nReports:")
    for cell in cells:
        if cell.why_impossible() is None:
            folder = ("report", f"model={cell.model.name}", f"method={cell.method.name}", "report.html")
            print(f"  {cell.key:32} {join(storage_root(), bench.name, *folder)}")
    print(f"  {'leaderboard':32} {join(storage_root(), bench.name, 'leaderboard_page', 'report.html')}")
    return 0


class _Runner:
    """Runs selections of assets in this process and says what each did."""

    def __init__(self, defs: dg.Definitions, bench: str) -> None:
        self.job = defs.resolve_implicit_global_asset_job_def()
        self.bench = bench
        self.instance = dg.DagsterInstance.get()
        # errors are printed below, in one line
        logging.getLogger("dagster").setLevel(logging.CRITICAL)

    def run(self, title: str, specs: list, cell: Cell | None) -> bool:  # type: ignore[type-arg]
        print(f"{title} ... ", end="", flush=True)
        start = time.monotonic()
        keys = [dg.AssetKey([self.bench, name]) for s in specs for name in s.outputs]
        result = self.job.execute_in_process(
            instance=self.instance,
            asset_selection=keys,
            partition_key=cell.key if cell else None,
            raise_on_error=False,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )
        seconds = time.monotonic() - start
        if not result.success:
            print(f"FAILED after {seconds:.1f} s")
            for event in result.all_events:
                if event.is_step_failure:
                    said, error = event.step_failure_data.user_failure_data, event.step_failure_data.error
                    print(f"  {event.step_key}: {said.description if said and said.description else error}")
            return False
        events = [e.materialization.metadata for e in result.get_asset_materialization_events()]
        written = sum(m["status"].value == "written" for m in events if "status" in m)
        print(f"{written} tables written, {len(events) - written} unchanged ({seconds:.1f} s)", flush=True)
        return True


if __name__ == "__main__":
    sys.exit(main())
