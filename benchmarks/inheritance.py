"""Active inheritance on the embedded model: tuned on the best of 8 of its answers against one of the 8 by chance.

Requests of the bench `tales` on 128 texts, plain request. On half of the texts the model writes 8 answers to each
request, and an adapter is trained on the best (or on one by chance); on the other half the two are compared, greedily,
request by request, clustered by text. Draws, choice by chance, first weights and order have their seed; figures are
means over the seeds, request by request, so that intervals are of texts and not of seeds: the range over seeds stands
beside them.

    OMP_NUM_THREADS=1 python -m benchmarks.inheritance [--seeds 3] [--texts 128] [--folder RUNS]

With a folder, runs stay there, and what was interrupted is taken up again.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.adapter_world import SPEC, training_on
from schemas.recipes import InheritanceRecipe
from steer_core.adapters.inheritance.candidates import Drawn, draw, measured
from steer_core.adapters.inheritance.selection import pools, select
from steer_core.adapters.recipe import Training, train
from steer_core.front.bench import Bench, open_bench
from steer_core.generation.adapters import Adapter
from steer_core.generation.backend import Call, answer_all
from steer_core.generation.engines.transformers import TransformersBackend
from steer_core.models import load_model
from steer_core.statistics import best_of_curve, clustered_mean

#: What is wanted: metric and direction.
AIMS = (("length", "min"), ("goal:formality", "max"))
WAYS = ("best", "random")
Floats = NDArray[np.float64]


def recipe(metric: str, direction: str, way: str, seed: int) -> InheritanceRecipe:
    """The preset of the embedded model; room for whole answers."""
    aim = {"metric": metric, "direction": direction}
    return InheritanceRecipe.model_validate(
        {"preset": "embedded", "objectives": [aim], "select": way, "seed": seed, "max_new_tokens": 192}
    )


def answered(backend: TransformersBackend, held: Training, adapter: Adapter | None) -> dict[str, Floats]:
    """Metrics of greedy answers to the held-out requests, each of shape [requests]; NaN where an answer failed."""
    requests = sorted(held.plans)
    digest = None if adapter is None else adapter.digest
    calls = [Call(replace(held.plans[r], adapter=digest), 0, 0) for r in requests]
    found = answer_all(backend, calls)
    drawn = [Drawn(r, 0, a.raw, a.finish_reason, (), 0.0) for r, a in zip(requests, found, strict=True)]
    rows = measured(drawn, held)
    table = {
        m: np.array([np.nan if c.failure else c.metrics[m] for c in rows])
        for m in ("length", "meaning", "steering_error", *(f"goal:{g}" for g in held.goals))
    }
    return table | {"failed": np.array([float(c.failure is not None) for c in rows])}


def run(bench: Bench, learnt: set[str], held: Training, seed: int, folder: Path) -> dict[tuple[str, str], Any]:
    """(aim, way) -> metrics on the held-out requests after training; also ("pool", aim) -> the curve in k."""
    backend, found = TransformersBackend(load_model(SPEC)), dict[tuple[str, str], Any]()
    first = training_on(bench, folder / "draws", learnt)
    first.run.begin()
    drawn = draw(recipe(*AIMS[0], "best", seed), first, sorted(first.plans), backend)
    candidates = measured(drawn, first)
    sources = {r: t.source for r, t in first.targets.items()}
    known: dict[str, dict[str, Floats]] = {}
    for metric, direction in AIMS:
        chosen = select(candidates, recipe(metric, direction, "best", seed))
        found["pool", metric] = best_of_curve(pools(candidates, chosen, metric, sources)), chosen.counts
        for way in WAYS:
            picked = str(select(candidates, recipe(metric, direction, way, seed)).chosen)
            if picked in known:
                # chance does not look at what is wanted: the same answers are the same training
                found[metric, way] = known[picked]
                continue
            place = folder / f"{metric.replace(':', '-')}-{way}"
            if not place.exists():
                place.mkdir(parents=True)
                # all are chosen from the same answers: they have the same seeds
                shutil.copyfile(folder / "draws" / "candidates.jsonl", place / "candidates.jsonl")
            states = train(recipe(metric, direction, way, seed), training_on(bench, place, learnt))
            adapter = Adapter.of(states[max(states)])
            backend.add_adapters([adapter])
            found[metric, way] = known[picked] = answered(backend, held, adapter)
    return found


def difference(runs: Sequence[dict[tuple[str, str], Any]], aim: str, metric: str, texts: Any, level: float) -> str:
    """Best less chance on a metric: mean, interval over texts, range over seeds, requests."""
    gaps = np.stack([r[aim, "best"][metric] - r[aim, "random"][metric] for r in runs])  # [seeds, requests]
    # a request counts where all seeds answered it
    found = clustered_mean(gaps.mean(axis=0), texts, level=level)
    seeds = np.nanmean(gaps, axis=1)
    value, low, high = (float("nan") if v is None else v for v in (found.value, found.low, found.high))
    spread = f"seeds {seeds.min():+.3f} to {seeds.max():+.3f}, " if len(seeds) > 1 else ""
    return f"{value:+8.3f} [{low:+.3f} to {high:+.3f}]  {spread}{found.n} requests on {found.n_clusters} texts"


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--texts", type=int, default=128)
    parser.add_argument("--folder", help="where runs lie; the same seeds and texts take them up again")
    options = parser.parse_args()
    bench = open_bench("tales", options.texts, 4, ())
    every = sorted(set(bench.probe.requests["text"]))
    # an order that has nothing to do with the texts
    every = [every[i] for i in np.random.default_rng(0).permutation(len(every))]
    learnt, aside = set(every[: len(every) // 2]), set(every[len(every) // 2 :])
    with tempfile.TemporaryDirectory() if options.folder is None else nullcontext(options.folder) as name:
        held = training_on(bench, Path(name, aside) / "held")
        texts = np.array([held.targets[r].source for r in sorted(held.plans)])
        plain = answered(TransformersBackend(load_model(SPEC)), held, None)
        runs = [run(bench, learnt, held, seed, Path(name) / str(seed)) for seed in range(options.seeds)]
    own = recipe(*AIMS[0], "best", 0)
    print(
        f"tales, plain request, embedded model; {len(learnt)} texts trained on, {len(aside)} held out, 4 requests "
        f"each; {own.samples} answers a request at temperature {own.temperature:g}, {own.epochs} epochs, "
        f"batch {own.batch}, rank {own.lora.rank}; seeds: {options.seeds}"
    )
    metrics = [m for m in plain if m != "failed"]
    for aim, direction in AIMS:
        print(f"\nwanted: {aim} {direction}")
        for seed, found in enumerate(runs):
            curve, counts = found["pool", aim]
            ends = ", ".join(
                f"k = {k}: {curve[k - 1].value:.3f} [{curve[k - 1].low:.3f} to {curve[k - 1].high:.3f}]"
                for k in (1, 2, 4, 8)
            )
            said = ", ".join(f"{n} {name}" for name, n in counts.items() if n)
            print(f"  best of k in the pool, seed {seed}: {ends}; {said}")
        print("  greedy answers to held-out requests, mean over requests that each of them answered")
        for metric in [*metrics, "failed"]:
            ways = [np.nanmean(np.stack([r[aim, way][metric] for r in runs])) for way in WAYS]
            print(
                f"    {metric:<24} untuned {np.nanmean(plain[metric]):8.3f}   "
                f"best {ways[0]:8.3f}   chance {ways[1]:8.3f}"
            )
        print("  best less chance, paired by request, 95 % interval clustered by text")
        print(f"    {aim:<24} {difference(runs, aim, aim, texts, 0.95)}")
        others = [m for m in metrics if m != aim]
        print(f"  what else differs, intervals widened for {len(others)} of them")
        for metric in others:
            print(f"    {metric:<24} {difference(runs, aim, metric, texts, 1 - 0.05 / len(others))}")


if __name__ == "__main__":
    main()
