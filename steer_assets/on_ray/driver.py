"""Cells of a bench spread over the workers of a Ray cluster.

Each worker takes a cell at a time, of the model whose weights it has where there is one; a cell waits for the controls
that it is held against. Where there are more workers than cells to run, the arms of a sweep are written by several of
them, each a share, before one runs the cell. A worker that dies (its process, its machine) costs the cell it was at:
another one takes it, and finds in the journal what was written. Should two believe that a cell is theirs, the lease on
each table lets one of them make it.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from schemas.specs import BenchSpec
from steer_assets.asked_models import sweeps
from steer_assets.on_ray.crew import ATTEMPTS, Crew
from steer_assets.partitions import Cell
from steer_assets.steps import controls_of
from steer_core.generation.shares import Share
from steer_core.tables.errors import ConfigError, SteerworksError

#: Most workers that write the arms of one cell.
MOST_SHARES = 8
#: Exit code of the driving process where a cell failed.
CELL_FAILED = 3


def run_on_ray(bench: BenchSpec, cells: Sequence[Cell], address: str, wants: Mapping[str, float]) -> int:
    """Bring cells up to date on a cluster; what they share and the leaderboard are made here.

    In a process of its own: Ray ends that of a driver whose head is lost.

    Args:
        bench: the bench.
        cells: which.
        address: of the head, `HOST:6379`, or `auto` on a machine of the cluster.
        wants: resources of a worker, e.g. `{"GPU": 1}`.

    Returns:
        An exit code: 0, or 1 where a cell failed or the head was lost.

    Raises:
        ConfigError: no cluster, or no live node with so much.
    """
    from steer_assets.on_ray.preflight import check_head

    try:
        import ray  # noqa: F401
    except ImportError as error:
        raise ConfigError("Ray is not installed: pip install 'steerworks[ray]'") from error
    check_head(address)
    own_paths()
    process = multiprocessing.get_context("spawn").Process(
        target=_drive_and_exit, args=(bench.name, [c.key for c in cells], address, dict(wants))
    )
    process.start()
    try:
        process.join()
    finally:
        if process.is_alive():
            process.terminate()
            process.join()
    if process.exitcode == CELL_FAILED:
        return 1
    if process.exitcode not in (0, 2, 130):
        print(
            f"The process that drove the cluster ended with {process.exitcode}: Ray ends it where its head is lost. "
            "What was written so far is kept: run it again to go on.",
            file=sys.stderr,
        )
        return 1
    return process.exitcode


def _drive_and_exit(bench: str, keys: list[str], address: str, wants: dict[str, float]) -> None:
    from steer_assets.demo import guarded
    from steer_assets.partitions import read_key
    from steer_assets.settings import registry

    spec = registry().bench(bench)
    code = guarded(lambda: _drive(spec, [read_key(spec, k) for k in keys], address, wants))
    # Ray itself ends a driver with 1
    sys.exit(CELL_FAILED if code == 1 else code)


def _drive(bench: BenchSpec, cells: list[Cell], address: str, wants: dict[str, float]) -> int:
    from steer_assets.nodes import BOARD, CELLS, SHARED
    from steer_assets.preflight import check_bench
    from steer_assets.running import NEEDED, Runner, close, groups_of

    check_bench(bench, cells, reach=True)
    begun = time.monotonic()
    crew = Crew(bench.name, wants, address)
    possible = [c for c in cells if c.why_impossible() is None]
    crew.attach(Shares(c.key for c in possible if sweeps(c)).workers(possible))
    # workers import while this is made
    groups, runner, steps = groups_of(bench), Runner(bench.name), 2 + len(cells)
    failed = runner.run(f"[1/{steps}] corpus, goal space, probes", groups[SHARED], None)
    ok = not failed
    crew.spent["what cells share"] = time.monotonic() - begun
    for cell in cells:
        if cell not in possible:
            print(f"{cell.key}: left out, {cell.why_impossible()}", flush=True)
    if not failed & set(NEEDED):
        ok = _spread(crew, possible, groups[CELLS], steps) and ok
    before = time.monotonic()
    ok = close(bench, cells, runner, groups[BOARD], f"[{steps}/{steps}] leaderboard", ok, begun)
    crew.spent["leaderboard"] = time.monotonic() - before
    print("Where the time went: " + ", ".join(f"{k} {v:.0f} s" for k, v in crew.spent.items()), flush=True)
    crew.detach()
    return 0 if ok else 1


def _spread(crew: Crew, cells: list[Cell], names: list[str], steps: int) -> bool:
    """Run the cells; whether all of them came out."""
    waiting, ok = list(cells), True
    attempts: Counter[str] = Counter()
    shares = Shares(c.key for c in cells if sweeps(c))
    begun, n = time.monotonic(), 1
    while waiting or crew.tasks:
        under_way = [cell for cell, share in crew.tasks if share is None]
        ready = [c for c in waiting if not _waits(c, waiting, under_way) and not shares.open[c.key]]
        for k, cell in enumerate(ready):
            if not crew.idle:
                break
            if (own := shares.of(cell, len(crew.idle) // (len(ready) - k))) > 1:
                for index in range(own):
                    crew.give_share(cell, Share(index, own))
                print(f"    the arms of {cell.key} are written by {own} workers", flush=True)
                continue
            waiting.remove(cell)
            attempts[cell.key] += 1
            crew.give(cell, names)
        for cell, share, found in crew.look():
            if share is not None:
                # of a share that was lost, or that failed, the cell itself writes what is lacking, or says why not
                shares.open[cell.key] -= 1
                continue
            if found is None:
                if attempts[cell.key] >= ATTEMPTS:
                    raise SteerworksError(f"{cell.key}: {ATTEMPTS} workers died at it; look at their logs first")
                waiting.insert(0, cell)
                print(f"    {cell.key} is given to another worker; what was written is kept", flush=True)
                continue
            n += 1
            said = f"{found['written']} tables written, {found['unchanged']} unchanged ({found['seconds']:.1f} s)"
            print(f"[{n}/{steps}] {cell.key} ... {'FAILED; ' if found['failed'] else ''}{said}", flush=True)
            for line in found["messages"]:
                print(f"  {line}", flush=True)
            ok = ok and not found["failed"]
        crew.fill(shares.workers(waiting) + len(crew.tasks))
    known = sum(crew.spent[kind] for kind in ("cells", "shares of sweeps", "workers starting"))
    crew.spent["workers with nothing to do"] = max(0.0, (time.monotonic() - begun) * crew.most - known)
    return ok


class Shares:
    """Which sweeps are still to be split, and how many shares of each are under way."""

    def __init__(self, swept: Iterable[str]) -> None:
        self._unsplit = set(swept)
        self.open: Counter[str] = Counter()

    def of(self, cell: Cell, workers: int) -> int:
        """Into how many shares the arms of a cell go, where it has so many workers to itself; each sweep once."""
        if cell.key not in self._unsplit or workers < 2:
            return 1
        self._unsplit.remove(cell.key)
        self.open[cell.key] = min(workers, MOST_SHARES)
        return self.open[cell.key]

    def workers(self, waiting: Iterable[Cell]) -> int:
        """How many workers what waits could use."""
        return sum(MOST_SHARES if c.key in self._unsplit else 1 for c in waiting)


def _waits(cell: Cell, waiting: Sequence[Cell], under_way: Sequence[Cell]) -> bool:
    """Whether a control of a cell is still to be run."""
    ahead = {c.key for c in (*waiting, *under_way)}
    return any(c.key in ahead for c in controls_of(cell))


def own_paths() -> None:
    """Settings that name places, whole: a worker's process begins elsewhere."""
    from steer_assets.settings import config_folders, dagster_home, storage_root

    os.environ["STEERWORKS_CONFIG"] = os.pathsep.join(str(Path(f).resolve()) for f in config_folders())
    root = storage_root()
    os.environ["STEERWORKS_ROOT"] = root if "://" in root else str(Path(root).resolve())
    os.environ["DAGSTER_HOME"] = str(Path(dagster_home()).resolve())
