"""What one cell costs beyond the imports: `python -m benchmarks.one_cell [--methods copy vector-mean-difference]`.

Each cell of bench `tales` runs twice through Dagster, in this process and an empty storage root: fresh, and again with
nothing to do. Processor and wall time, and how often weights were loaded. One thread.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path


def main() -> None:
    """Print a line a run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=["copy", "direct", "vector-mean-difference"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
        os.environ |= {"DAGSTER_HOME": folder, "STEERWORKS_ROOT": f"{folder}/root"}
        _measure(options.methods)


def _measure(methods: list[str]) -> None:
    begun = time.process_time()
    import torch

    from steer_assets.assets import nodes_of
    from steer_assets.nodes import CELLS, SHARED
    from steer_assets.partitions import chosen_cells
    from steer_assets.running import Runner
    from steer_assets.settings import registry
    from steer_core.models import loading

    torch.set_num_threads(1)
    bench = registry().bench("tales")
    runner = Runner(bench.name)
    print(f"imports and definitions: {time.process_time() - begun:.1f} s of processor time")
    runner.run("shared nodes", [n.name for n in nodes_of(bench).all if n.group == SHARED], None)
    loads = _counting(loading)
    names = [n.name for n in nodes_of(bench).all if n.group == CELLS]
    for cell in chosen_cells(bench, methods):
        for when in ("fresh", "unchanged"):
            before, cpu, wall = loads(), time.process_time(), time.perf_counter()
            if runner.run(f"{cell.key}, {when}", names, cell):
                raise SystemExit(f"{cell.key} failed")
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            print(f"  {cpu:.1f} s of processor time, {wall:.1f} s; weights loaded {loads() - before} times", flush=True)


def _counting(loading: object) -> Callable[[], int]:
    """Counts calls of `load_model` from here on."""
    calls = []
    real = loading.load_model  # type: ignore[attr-defined]

    def counted(spec: object) -> object:
        calls.append(spec)
        return real(spec)

    loading.load_model = counted  # type: ignore[attr-defined]
    return lambda: len(calls)


if __name__ == "__main__":
    main()
