"""Cells of a bench spread over the workers of a Ray cluster.

Each worker takes a cell at a time, of the model whose weights it has where there is one; a cell waits for the controls
that it is held against. A worker that dies (its process, its machine) costs the cell it was at: another one takes it,
and finds in the journal what was written. Should two believe that a cell is theirs, the lease on each table lets one
of them make it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from schemas.specs import BenchSpec
from steer_assets.partitions import Cell
from steer_assets.steps import controls_of
from steer_core.tables.errors import ConfigError, SteerworksError

#: Times that a cell is given to a worker, the deaths of workers included.
ATTEMPTS = 4
#: Seconds between two looks at workers and nodes.
LOOK_EVERY = 2.0
#: Seconds that a head may take to come back.
PATIENCE = 180.0
#: Exit code of the driving process where a cell failed.
CELL_FAILED = 3
#: Starts of the names of settings that workers get.
PASSED = ("STEERWORKS_", "DAGSTER_HOME", "FSSPEC_", "AWS_", "HF_", "OMP_")


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


@dataclass
class Crew:
    """The workers of a run.

    Attributes:
        bench: name of the bench.
        wants: resources of each.
        address: of the head.
        idle: workers that wait -> the model whose weights they have.
        busy: what a worker does -> worker, cell (None: it starts), since when.
        spent: seconds by what they went into.
        most: how many there were at once.
        failed_starts: workers in a row that ended before they were ready.
        without_place: since when no live node has place for one.
    """

    bench: str
    wants: Mapping[str, float]
    address: str
    idle: dict[Any, str] = field(default_factory=dict)
    busy: dict[Any, tuple[Any, Cell | None, float]] = field(default_factory=dict)
    spent: Counter[str] = field(default_factory=Counter)
    most: int = 0
    failed_starts: int = 0
    without_place: float | None = None

    @property
    def cells(self) -> list[Cell]:
        """Cells that a worker is at."""
        return [cell for _, cell, _ in self.busy.values() if cell is not None]

    def attach(self, wanted: int) -> None:
        """Join the cluster, and ask for workers.

        Raises:
            ConfigError: no live node has place for one.
        """
        import ray

        ray.init(address=self.address, namespace="steerworks", log_to_driver=False, logging_level="ERROR")
        # the last words of nodes that died, pages of them, are in Ray's own logs
        ray._private.worker.print_to_stdstream = lambda *args, **kwargs: None
        places = self._places()
        for _ in range(min(places, wanted)):
            self._hire()

    def detach(self) -> None:
        """Leave the cluster; its workers end."""
        import ray

        self.idle.clear()
        self.busy.clear()
        ray.shutdown()

    def give(self, worker: Any, cell: Cell, names: list[str]) -> None:
        """Let a worker run a cell."""
        self.idle.pop(worker)
        self.busy[worker.run.remote(names, cell.key)] = (worker, cell, time.monotonic())

    def best_for(self, cell: Cell) -> Any:
        """An idle worker: one with the cell's weights before one without any, and that before one with others."""
        order = {cell.model.name: 0, "": 1}
        return min(self.idle, key=lambda w: order.get(self.idle[w], 2))

    def look(self) -> list[tuple[Cell, dict[str, Any] | None]]:
        """What came of cells since the last look: None of one whose worker died."""
        import ray

        if not self._attached():
            return self._attach_again()
        if not self.busy:
            time.sleep(LOOK_EVERY)
        done, _ = ray.wait(list(self.busy), num_returns=1, timeout=LOOK_EVERY) if self.busy else ([], [])
        came = []
        for ref in done:
            worker, cell, since = self.busy.pop(ref)
            self.spent["cells" if cell else "workers starting"] += time.monotonic() - since
            try:
                found = ray.get(ref)
            except ray.exceptions.RayTaskError as error:
                # the worker is well, and says what went wrong
                found = {"failed": [cell.key if cell else "start"], "written": 0, "unchanged": 0, "seconds": 0.0}
                found["messages"] = [str(error.cause or error).strip()]
            except ray.exceptions.RayError as error:
                # it may be out of reach only: a lease on each table keeps it from writing beside its successor
                with contextlib.suppress(Exception):
                    ray.kill(worker)
                if cell is not None:
                    print(f"    the worker at {cell.key} is gone", flush=True)
                    came.append((cell, None))
                else:
                    self._not_started(error)
                continue
            self.idle[worker] = cell.model.name if cell else ""
            self.failed_starts = 0
            if cell is not None:
                came.append((cell, found))
        return came

    def _not_started(self, error: Exception) -> None:
        """A worker has ended before it was ready: its node went away, or nothing can start there.

        Raises:
            SteerworksError: several in a row.
        """
        self.failed_starts += 1
        if self.failed_starts >= ATTEMPTS:
            raise SteerworksError(
                f"{ATTEMPTS} workers in a row could not start; the last one said: {error}\nEvery node needs the same "
                f"environment, and the configuration at the same place ({os.environ.get('STEERWORKS_CONFIG', '')})"
            ) from error

    def fill(self, wanted: int) -> None:
        """Ask for more workers where there is place: machines come and go."""
        size = len(self.idle) + len(self.busy)
        if size >= wanted:
            return
        try:
            for _ in range(min(wanted, self._places()) - size):
                self._hire()
            self.without_place = None
        except ConfigError as error:
            now = time.monotonic()
            if size:
                return
            if self.without_place is None:
                print(f"    {error}; waiting for one", flush=True)
                self.without_place = now
            elif now - self.without_place > PATIENCE:
                raise SteerworksError(
                    f"{error}, for {PATIENCE:.0f} s. What was written is kept: run it again"
                ) from error

    def _hire(self) -> None:
        """Ask for one more; it waits in the cluster until there is place."""
        import ray

        from steer_assets.on_ray.worker import CellWorker

        own = {k: v for k, v in self.wants.items() if k not in ("CPU", "GPU")}
        worker = (
            ray.remote(CellWorker)
            .options(
                num_cpus=self.wants.get("CPU", 0),
                num_gpus=self.wants.get("GPU", 0),
                resources=own or None,
                max_restarts=0,
                runtime_env={"env_vars": {k: v for k, v in os.environ.items() if k.startswith(PASSED)}},
            )
            .remote(self.bench)
        )
        self.busy[worker.ready.remote()] = (worker, None, time.monotonic())
        self.most = max(self.most, len(self.idle) + len(self.busy))

    def _places(self) -> int:
        import ray

        from steer_assets.on_ray.preflight import check_nodes

        return check_nodes([n["Resources"] for n in ray.nodes() if n["Alive"]], self.wants, self.address)

    def _attached(self) -> bool:
        """Whether the node through which this process is in the cluster is alive, as far as the head says."""
        import ray

        own = ray.get_runtime_context().get_node_id()
        try:
            return any(n["NodeID"] == own and n["Alive"] for n in ray.nodes())
        except ray.exceptions.RayError:
            return True

    def _attach_again(self) -> list[tuple[Cell, None]]:
        """Join the cluster by another node; cells that were under way are to be given again.

        Raises:
            SteerworksError: the head has not come back.
        """
        from steer_assets.on_ray.preflight import check_head

        lost = self.cells
        print("    the node that joined this to the cluster is gone; joining again", flush=True)
        self.detach()
        end = time.monotonic() + PATIENCE
        while True:
            try:
                check_head(self.address)
                self.attach(max(len(lost), 1))
            except (ConfigError, ConnectionError, RuntimeError, ValueError) as error:
                # a head may be back before its nodes are
                self.detach()
                if time.monotonic() > end:
                    raise SteerworksError(
                        f"the cluster has not come back for {PATIENCE:.0f} s ({error}). What was written is kept: run "
                        "it again"
                    ) from error
                time.sleep(LOOK_EVERY)
                continue
            return [(cell, None) for cell in lost]


def _drive(bench: BenchSpec, cells: list[Cell], address: str, wants: dict[str, float]) -> int:
    from steer_assets.nodes import BOARD, CELLS, SHARED
    from steer_assets.preflight import check_bench
    from steer_assets.running import NEEDED, Runner, close, groups_of

    check_bench(bench, cells, reach=True)
    begun = time.monotonic()
    crew = Crew(bench.name, wants, address)
    crew.attach(len(cells))
    # workers import while this is made
    groups, runner, steps = groups_of(bench), Runner(bench.name), 2 + len(cells)
    failed = runner.run(f"[1/{steps}] corpus, goal space, probes", groups[SHARED], None)
    ok = not failed
    crew.spent["what cells share"] = time.monotonic() - begun
    possible = [c for c in cells if c.why_impossible() is None]
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
    begun, n = time.monotonic(), 1
    while waiting or crew.cells:
        for cell in [c for c in waiting if not _waits(c, waiting, crew.cells)]:
            if crew.idle:
                waiting.remove(cell)
                attempts[cell.key] += 1
                crew.give(crew.best_for(cell), cell, names)
        for cell, found in crew.look():
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
        crew.fill(len(waiting) + len(crew.cells))
    crew.spent["workers with nothing to do"] = max(
        0.0, (time.monotonic() - begun) * crew.most - crew.spent["cells"] - crew.spent["workers starting"]
    )
    return ok


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
