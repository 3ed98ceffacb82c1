"""What got faster, beside what a user would pick, and how costs grow: `python -m benchmarks.speed`.

One thread, processor time, one run; every pair is checked to be equal before it is timed. Growth is measured in fresh
processes, for their memory: a probe four times as large, four times the methods, eight times the arms.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np


def main() -> None:
    """Print a line a figure; with `--case`, one case of growth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", nargs=4, type=int, metavar=("TEXTS", "REQUESTS", "METHODS", "ARMS"))
    options = parser.parse_args()
    if options.case:
        _case(*options.case)
        return
    import torch

    torch.set_num_threads(1)
    _imports()
    _intervals()
    _scoring()
    _growth()


def _cpu(run: Callable[[], Any], times: int = 5) -> float:
    run()
    found = []
    for _ in range(times):
        start = time.process_time()
        run()
        found.append(time.process_time() - start)
    return median(found)


def _imports() -> None:
    code = "import time; t = time.process_time(); import {}; print(time.process_time() - t)"

    def seconds(module: str) -> float:
        runs = [subprocess.check_output([sys.executable, "-c", code.format(module)]) for _ in range(5)]
        return median(float(r.split()[-1]) for r in runs)

    dagster, ours = seconds("dagster"), seconds("steer_assets.definitions")
    print(f"definitions: {ours:.2f} s, `import dagster` {dagster:.2f} s: {ours / dagster:.2f}x", flush=True)


def _intervals() -> None:
    """Means of 24 measures over 2,048 rows with their clustered intervals, beside 10,000 draws by scipy."""
    from scipy.stats import bootstrap

    from steer_core.statistics import clustered_mean

    rng = np.random.default_rng(0)
    for n_clusters in (64, 2048):
        labels = np.repeat(np.arange(n_clusters), 2048 // n_clusters)
        values = rng.normal(size=(24, 2048)) + rng.normal(size=(24, n_clusters))[:, labels]
        sums = [np.bincount(labels, v) for v in values]

        def peer(sums: Any = sums, n: int = n_clusters) -> Any:
            return [
                bootstrap((s / (2048 // n),), np.mean, n_resamples=10_000, method="percentile", rng=0, batch=500)
                for s in sums
            ]

        ours = [clustered_mean(v, labels) for v in values]
        for a, b, v in zip(ours, peer(), values, strict=True):
            assert a.value is not None
            assert a.low is not None
            assert abs(a.value - v.mean()) < 1e-12
            # t against percentiles: of one size
            assert 0.9 < (a.value - a.low) / (v.mean() - b.confidence_interval.low) < 1.2
        mine = _cpu(lambda values=values, labels=labels: [clustered_mean(v, labels) for v in values])
        theirs = _cpu(peer, times=1)
        print(
            f"24 means x 2,048 rows, {n_clusters} clusters, with intervals: {1e3 * mine:.1f} ms; scipy's bootstrap of "
            f"the cluster means, 10,000 draws: {1e3 * theirs:.0f} ms",
            flush=True,
        )


def _arms(n_arms: int, n_items: int = 24) -> tuple[Any, list[Any], list[str]]:
    from schemas.specs import Decoding, ModelSpec
    from steer_core.generation.engines.transformers import TransformersBackend
    from steer_core.models.loading import load_model
    from steer_core.steering.intervention import Intervention
    from steer_core.steering.plan import Message, Plan
    from steer_core.steering.vector import SteeringVector

    loaded = load_model(ModelSpec(name="embedded", source="embedded"))
    rng = np.random.default_rng(0)
    width = loaded.model.config.hidden_size
    directions = rng.normal(size=(n_arms, 1, width)).astype(np.float32)
    vectors = [SteeringVector("c", "add", 2, {"direction": d}, {}, loaded.fingerprint) for d in directions]
    plans, texts = [], []
    for v in vectors:
        for item in range(n_items):
            asked = (Message("user", f"Tell me about the sailor and the lamp, number {item}."),)
            act = (Intervention("add", v.id, 2, 0.1),)
            plans.append(Plan(loaded.spec.identity, Decoding(max_new_tokens=1), messages=asked, interventions=act))
            texts.append("The sailor found the lamp. It was a lovely day. " + "And we went home again. " * 4)
    return TransformersBackend(loaded, vectors), plans, texts


def _scoring() -> None:
    """Fifty arms of one layer, with the layers below shared and without."""
    from steer_core.generation import reading
    from steer_core.generation.forced import score_all

    backend, plans, texts = _arms(50)
    shared = score_all(plans, texts, backend, 64)
    a = _cpu(lambda: score_all(plans, texts, backend, 64), times=3)
    share, reading.shares_trunk = reading.shares_trunk, lambda _: False
    whole = score_all(plans, texts, backend, 64)
    b = _cpu(lambda: score_all(plans, texts, backend, 64), times=3)
    reading.shares_trunk = share
    gap = max(abs(np.array(x) - np.array(y)).max() for x, y in zip(shared, whole, strict=True))
    assert gap < 1e-4, gap
    print(
        f"scoring 24 items under 50 arms at layer 2 of 4: {a:.2f} s with shared layers, {b:.2f} s without: "
        f"{b / a:.2f}x (largest difference {gap:.0e} nats)",
        flush=True,
    )


def _growth() -> None:
    base = (16, 4, 1, 0)
    cases = {
        "probe x4 (64 texts, 4 requests each)": (base, (64, 4, 1, 0)),
        "methods x4": (base, (16, 4, 4, 0)),
        "arms x8 (64 arms of 24 items)": ((0, 0, 0, 8), (0, 0, 0, 64)),
    }
    for name, (small, large) in cases.items():
        figures = []
        for case in (small, large):
            said = subprocess.check_output([sys.executable, "-m", "benchmarks.speed", "--case", *map(str, case)])
            figures.append([float(v) for v in said.split()[-2:]])
        (t0, m0), (t1, m1) = figures
        print(
            f"{name}: {t0:.1f} s -> {t1:.1f} s ({t1 / t0:.1f}x), peak {m0:.0f} -> {m1:.0f} MB ({m1 / m0:.2f}x)",
            flush=True,
        )


def _case(texts: int, requests: int, methods: int, arms: int) -> None:
    """Processor seconds beyond loading, and peak memory in MB."""
    import torch

    import steer_core as steer
    from steer_core.generation.forced import score_all

    torch.set_num_threads(1)
    if arms:
        backend, plans, answers = _arms(arms)
        start = time.process_time()
        score_all(plans, answers, backend, 64)
    else:
        model = steer.load("embedded")
        model.generate("Hello.", max_new_tokens=2)
        start = time.process_time()
        for name in ("direct", "one-to-ten", "direct-negative", "direct-explained")[:methods]:
            steer.measure(name, model, texts=texts, requests=requests)
    print(time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)


if __name__ == "__main__":
    main()
