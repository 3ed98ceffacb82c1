"""Trains the adapters of a cell as a plain call of the library, in a process of its own: `python -m` this, CELL."""

import logging
import sys

from steer_assets.assets import nodes_of
from steer_assets.partitions import all_cells
from steer_assets.settings import registry, storage_root
from steer_assets.steps import run_step
from steer_assets.tables import Work

if __name__ == "__main__":
    bench = registry().bench("small")
    (cell,) = [c for c in all_cells(bench) if c.key == sys.argv[1]]
    nodes = nodes_of(bench)
    run_step(nodes.maker("adapters"), Work(bench, storage_root(), logging.getLogger("begun"), cell), nodes)
