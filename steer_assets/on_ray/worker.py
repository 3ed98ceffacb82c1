"""A worker of a cluster: runs one cell after the other, and keeps the weights between those of one model."""

from __future__ import annotations

import os
import time
from typing import Any


class CellWorker:
    """An actor. It is never restarted by Ray: who drives it asks another one for the cell."""

    def __init__(self, bench: str) -> None:
        begun = time.monotonic()
        from steer_assets.compute import hold_on
        from steer_assets.running import Runner

        self.runner = Runner(bench)
        hold_on()
        self.started = time.monotonic() - begun

    def ready(self) -> dict[str, Any]:
        """Where it is, and how long its imports took."""
        import ray

        return {"node": ray.get_runtime_context().get_node_id()[:8], "pid": os.getpid(), "seconds": self.started}

    def run(self, names: list[str], key: str) -> dict[str, Any]:
        """Bring a cell up to date; what came of it."""
        from steer_assets.partitions import read_key
        from steer_assets.settings import registry

        found = self.runner.execute(names, read_key(registry().bench(self.runner.bench), key))
        return {
            "failed": sorted(found.failed),
            "written": found.written,
            "unchanged": found.unchanged,
            "messages": found.messages,
            "seconds": found.seconds,
        }

    def share(self, key: str, index: int, of: int) -> dict[str, Any]:
        """Write a share of the answers of a cell's sweep to the journal."""
        import logging

        from steer_assets.assets import nodes_of
        from steer_assets.partitions import read_key
        from steer_assets.settings import registry, storage_root
        from steer_assets.sharing import write_share
        from steer_assets.tables import Work
        from steer_core.generation.shares import Share

        bench = registry().bench(self.runner.bench)
        work = Work(bench, storage_root(), logging.getLogger("steerworks"), read_key(bench, key))
        return {"written": write_share(work, nodes_of(bench), Share(index, of))}
