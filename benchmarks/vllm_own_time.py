"""What steering itself takes of a pass, apart from vLLM: the worker's steerer and lanes on made-up activations.

The least of many passes is told as well as the median: what else runs on a machine adds to a time, never takes away.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

PASSES = 300


def own_time(rows: int, layers: Sequence[int], width: int, depth: int) -> tuple[float, float]:
    """Least and median milliseconds that steering takes of a pass which writes a token of each row.

    Args:
        rows: requests under way, each with a vector of its own.
        layers: where each acts.
        width: hidden size.
        depth: layers of the model.
    """
    import numpy as np
    import torch

    from steer_core.generation.vllm_worker.spec import read_spec, write_spec
    from steer_core.generation.vllm_worker.steerer import Steerer

    steerer = Steerer(depth, ("residual",), width, torch.float32, torch.device("cpu"))
    hidden, residual = torch.randn(rows, width), torch.randn(rows, width)
    names = [f"r{n}" for n in range(rows)]
    for n, name in enumerate(names):
        steerer.add_vector(f"v{n}", {"direction": torch.randn(1, width)}, {})
        edits = [{"operator": "add", "vector": f"v{n}", "layer": layer, "coefficient": 1e-3} for layer in layers]
        steerer.join(name, read_spec(write_spec(edits, name)), 32, 0)
    ones = np.ones(rows, dtype=np.int64)
    took = []
    for k in range(PASSES):
        began = time.perf_counter()
        steerer.begin(names, ones * (32 + k), ones)
        for lanes in list(steerer.active.values()):
            for lane in lanes:
                lane.act(hidden, residual, rows)
        steerer.end()
        took.append(1000 * (time.perf_counter() - began))
    # the first pass sets up what the others reuse
    return min(took[1:]), statistics.median(took[1:])


def print_own_time(width: int, depth: int) -> None:
    """Print it for one layer and for all, 64 and 256 rows."""
    print("what steering itself takes of a pass, ms (least, median):")
    for name, layers in (("one layer", (depth // 2,)), ("all layers", tuple(range(depth)))):
        for rows in (64, 256):
            least, middle = own_time(rows, layers, width, depth)
            print(f"  {name:10} {rows:4} specs  {least:7.2f} {middle:7.2f}", flush=True)
