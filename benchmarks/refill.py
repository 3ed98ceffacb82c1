"""What refilling saves in generation: `python benchmarks/refill.py [--pairs 5] [--batch-size 64]`.

The requests of the bench `tales` (512 of its main probe) on the embedded model, one thread, in interleaved pairs that
swap their order: batches that step on until their longest row ends (`batching="plain"`) against places that waiting
calls take over (`refill`). Both are checked to write the same tokens, receipts included.

1. Unsteered: the `direct` prompt.
2. Steered: the `rewrite` prompt under a mean-difference vector of cheerfulness, the doses of `vector-mean-difference`
   in turn, so that every batch holds all strengths.
3. Sampled: the `direct` prompt at temperature 1.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from schemas.vector_part import VectorPart
from steer_core.corpus import build_corpus, candidate_texts
from steer_core.corpus.contrasts import build_contrasts
from steer_core.generation.backend import Call, Generation, Stats, answer_all
from steer_core.generation.engines.transformers import TransformersBackend
from steer_core.goals.measure import measure
from steer_core.goals.scorer import load_scorer
from steer_core.goals.space import GoalSpace, fit_goal_space
from steer_core.methods import Artifact, load_method
from steer_core.methods.driver import requests_from
from steer_core.methods.protocol import Choose, Request
from steer_core.models import load_model
from steer_core.probes import draw_probes
from steer_core.registry import Registry, load_registry
from steer_core.steering.compose import interventions
from steer_core.steering.plan import Plan
from steer_core.steering.strength import Strength
from steer_core.vectors.fit import fit_vectors

DOSES = (-1.2, -0.9, -0.6, -0.3, -0.1, 0.1, 0.3, 0.6, 0.9, 1.2)


def requests_of(registry: Registry) -> list[Request]:
    """The bench's own requests: its corpus, goal space and headline probe, drawn as the pipeline draws them."""
    bench = registry.bench("tales")
    scorers = {name: load_scorer(goal) for name, goal in registry.goals_of(bench).items()}
    corpus = build_corpus(bench.corpus)
    values = measure(corpus, list(scorers.values()))
    table = fit_goal_space(values, {n: s.scorer_id for n, s in scorers.items()}, bench.bounds)
    probes = [p for p in bench.probes if p.name == "main"]
    probe = draw_probes(probes, candidate_texts(corpus, probes), values, GoalSpace.from_table(table))
    return requests_from(probe.requests, probe.request_goals, bench.goals)


def plans_of(registry: Registry, name: str, requests: Sequence[Request]) -> list[Plan]:
    """The first plan of a method for each request."""
    bench = registry.bench("tales")
    method = load_method(registry.method(name), registry.model("embedded"), bench, registry.goals_of(bench))
    found = []
    for request in requests:
        step = method.step(request, Artifact(), ())
        assert not isinstance(step, Choose)
        found += step
    return found


def run(backend: TransformersBackend, calls: Sequence[Call], size: int) -> tuple[float, float, list[Generation], Stats]:
    """Wall and processor seconds, the answers, and what the passes were spent on."""
    backend.stats = Stats()
    wall, cpu = time.perf_counter(), time.process_time()
    # long prompts first, as the runner has it
    order = sorted(range(len(calls)), key=lambda i: (-backend.prompt_tokens(calls[i].plan), i))
    answers = dict(zip(order, answer_all(backend, [calls[i] for i in order], size), strict=True))
    return (
        time.perf_counter() - wall,
        time.process_time() - cpu,
        [answers[i] for i in range(len(calls))],
        backend.stats,
    )


def compare(name: str, old: TransformersBackend, new: TransformersBackend, plans: list[Plan], options: object) -> None:
    """Print ratios and shares of one workload."""
    pairs, size = vars(options)["pairs"], vars(options)["batch_size"]
    calls = [Call(p, 0, seed) for seed, p in enumerate(plans)]
    walls, cpus = [], []
    for k in range(pairs):
        first, second = (old, new) if k % 2 else (new, old)
        results = {id(b): run(b, calls, size) for b in (first, second)}
        (a, b, plain, before), (c, d, filled, after) = results[id(old)], results[id(new)]
        differ = sum((x.raw, x.receipt) != (y.raw, y.receipt) for x, y in zip(plain, filled, strict=True))
        assert differ == 0, f"{differ} of {len(calls)} answers differ"
        walls.append(a / c)
        cpus.append(b / d)
        lengths = sorted(g.completion_tokens for g in filled)
        if k == 0:
            print(
                f"{name}: {len(calls)} answers equal; tokens {lengths[0]} to {lengths[-1]}, median "
                f"{lengths[len(lengths) // 2]}; written of all row-steps: {before.share:.3f} plain, {after.share:.3f} "
                f"refilled; passes {before.passes} and {after.passes}",
                flush=True,
            )
        print(f"  plain {a:.2f} s wall, {b:.2f} s processor; refilled {c:.2f} s, {d:.2f} s", flush=True)
    for what, ratios in (("wall", walls), ("processor", cpus)):
        print(f"  plain / refilled, {what}: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


def main() -> None:
    """Print the figures of the three workloads."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=64)
    options = parser.parse_args()
    torch.set_num_threads(1)
    registry = load_registry([Path("config")])
    loaded = load_model(registry.model("embedded"))
    data = build_contrasts(registry.behavior("cheerfulness"))
    part = VectorPart(estimator="mean-difference", layers=(1,), unit="residual_fraction")
    (vector,) = [v for v in fit_vectors(loaded, data.examples, part, halves=False) if not v.control]
    old = TransformersBackend(loaded, [vector], batching="plain")
    new = TransformersBackend(loaded, [vector], batching="refill")
    requests = requests_of(registry)
    direct, rewrite = (plans_of(registry, name, requests) for name in ("direct", "rewrite"))
    steered = [
        replace(p, interventions=interventions([vector], Strength(DOSES[i % len(DOSES)], "residual_fraction")))
        for i, p in enumerate(rewrite)
    ]
    hot = [replace(p, decoding=p.decoding.model_copy(update={"temperature": 1.0})) for p in direct]
    run(new, [Call(p, 0, 0) for p in direct[:64]], 64)
    run(old, [Call(p, 0, 0) for p in direct[:64]], 64)
    for name, plans in (("unsteered", direct), ("steered", steered), ("sampled", hot)):
        compare(name, old, new, plans, options)


if __name__ == "__main__":
    main()
