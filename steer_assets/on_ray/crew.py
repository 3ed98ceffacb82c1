"""The workers of a run on a Ray cluster: who is there, who is at what, who has gone."""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from steer_assets.partitions import Cell
from steer_core.generation.shares import Share
from steer_core.tables.errors import ConfigError, SteerworksError

#: Times that a cell is given to a worker, the deaths of workers included.
ATTEMPTS = 4
#: Seconds between two looks at workers and nodes.
LOOK_EVERY = 2.0
#: Seconds that a head may take to come back.
PATIENCE = 180.0
#: Starts of the names of settings that workers get.
PASSED = ("STEERWORKS_", "DAGSTER_HOME", "FSSPEC_", "AWS_", "HF_", "OMP_")


@dataclass(frozen=True)
class Task:
    """What a worker is at.

    Attributes:
        worker: its handle.
        cell: of which cell; None: it starts.
        share: of whose sweep it writes a share; None: it runs the whole cell.
        since: by the monotonic clock.
    """

    worker: Any
    cell: Cell | None
    share: Share | None
    since: float

    @property
    def kind(self) -> str:
        """What its time goes into."""
        return "workers starting" if self.cell is None else "shares of sweeps" if self.share else "cells"


@dataclass
class Crew:
    """The workers of a run.

    Attributes:
        bench: name of the bench.
        wants: resources of each.
        address: of the head.
        idle: workers that wait -> the model whose weights they have.
        busy: what is under way.
        spent: seconds by what they went into.
        most: how many workers there were at once.
        failed_starts: workers in a row that ended before they were ready.
        without_place: since when no live node has place for one.
    """

    bench: str
    wants: Mapping[str, float]
    address: str
    idle: dict[Any, str] = field(default_factory=dict)
    busy: dict[Any, Task] = field(default_factory=dict)
    spent: Counter[str] = field(default_factory=Counter)
    most: int = 0
    failed_starts: int = 0
    without_place: float | None = None

    @property
    def tasks(self) -> list[tuple[Cell, Share | None]]:
        """Cells that a worker is at, and shares of them."""
        return [(task.cell, task.share) for task in self.busy.values() if task.cell is not None]

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

    def give(self, cell: Cell, names: list[str]) -> None:
        """Let the worker that suits it best run a cell."""
        worker = self.best_for(cell)
        self.idle.pop(worker)
        self.busy[worker.run.remote(names, cell.key)] = Task(worker, cell, None, time.monotonic())

    def give_share(self, cell: Cell, share: Share) -> None:
        """Let the worker that suits it best write a share of a cell's sweep."""
        worker = self.best_for(cell)
        self.idle.pop(worker)
        self.busy[worker.share.remote(cell.key, share.index, share.of)] = Task(worker, cell, share, time.monotonic())

    def best_for(self, cell: Cell) -> Any:
        """An idle worker: one with the cell's weights before one without any, and that before one with others."""
        order = {cell.model.name: 0, "": 1}
        return min(self.idle, key=lambda w: order.get(self.idle[w], 2))

    def look(self) -> list[tuple[Cell, Share | None, dict[str, Any] | None]]:
        """What came of cells and shares since the last look: None of one whose worker died."""
        import ray

        if not self._attached():
            return self._attach_again()
        if not self.busy:
            time.sleep(LOOK_EVERY)
        done, _ = ray.wait(list(self.busy), num_returns=1, timeout=LOOK_EVERY) if self.busy else ([], [])
        came = []
        for ref in done:
            task = self.busy.pop(ref)
            cell = task.cell
            self.spent[task.kind] += time.monotonic() - task.since
            try:
                found = ray.get(ref)
            except ray.exceptions.RayTaskError as error:
                # the worker is well, and says what went wrong
                found = {"failed": [cell.key if cell else "start"], "written": 0, "unchanged": 0, "seconds": 0.0}
                found["messages"] = [str(error.cause or error).strip()]
            except ray.exceptions.RayError as error:
                # it may be out of reach only: a lease on each table keeps it from writing beside its successor
                with contextlib.suppress(Exception):
                    ray.kill(task.worker)
                if cell is not None:
                    print(f"    the worker at {cell.key} is gone", flush=True)
                    came.append((cell, task.share, None))
                else:
                    self._not_started(error)
                continue
            self.idle[task.worker] = cell.model.name if cell else ""
            self.failed_starts = 0
            if cell is not None:
                came.append((cell, task.share, found))
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
        """Ask for more workers where there is place: machines come and go.

        Raises:
            SteerworksError: there has been no place for a single one for `PATIENCE`.
        """
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
        self.busy[worker.ready.remote()] = Task(worker, None, None, time.monotonic())
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

    def _attach_again(self) -> list[tuple[Cell, Share | None, None]]:
        """Join the cluster by another node; what was under way is to be given again.

        Raises:
            SteerworksError: the head has not come back.
        """
        from steer_assets.on_ray.preflight import check_head

        lost = self.tasks
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
            return [(cell, share, None) for cell, share in lost]
