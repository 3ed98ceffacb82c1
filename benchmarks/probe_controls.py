"""A vector method on the probe against random directions: `python benchmarks/probe_controls.py [--method NAME]`.

Run the cell first (`make demo`). Each random direction has the norm of the vector that it stands in for and gets the
very coefficients that the method chose for each request; all else is as in the cell. Differences of mean steering
error are paired by request and clustered by source text.
"""

from __future__ import annotations

import argparse
import functools
import json
from pathlib import Path

import numpy as np
import polars as pl

from schemas import Responses
from steer_assets.measuring import measure_texts
from steer_assets.settings import registry, storage_root
from steer_core.evaluation import evaluate
from steer_core.generation.engines.transformers import TransformersBackend
from steer_core.generation.run import Run
from steer_core.methods import Artifact, load_method
from steer_core.methods.driver import run_method
from steer_core.methods.protocol import Item
from steer_core.models import load_model
from steer_core.statistics import paired_contrast
from steer_core.steering.random_vectors import random_like
from steer_core.steering.vector import from_tables
from steer_core.tables import Journal
from steer_core.tables.files import join


def main() -> None:
    """Print the method's error beside unsteered and each random direction."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bench", default="tales")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--method", default="vector-mean-difference")
    parser.add_argument("--unsteered", default="rewrite", help="the method with the same prompt and no vector")
    parser.add_argument("--random", type=int, default=20)
    parser.add_argument("--probe", default="main")
    options = parser.parse_args()
    bench, model = registry().bench(options.bench), registry().model(options.model)
    goals = registry().goals_of(bench)

    def read(table: str, method: str | None = None) -> pl.DataFrame:
        cell = [f"model={model.name}", f"method={method}"] if method else []
        return pl.read_parquet(join(storage_root(), bench.name, table, *cell, "part.parquet"), hive_partitioning=False)

    requests = read("requests").filter(pl.col("probe") == options.probe)
    request_goals = read("request_goals").join(requests, on="request_id", how="semi")
    space = read("goal_space")
    vectors = from_tables(read("vectors", options.method), read("vector_tensors", options.method))
    artifact = Artifact.from_table(read("artifacts", options.method))
    backend = TransformersBackend(load_model(model))
    method = load_method(registry().method(options.method), model, bench, goals)
    journal = Journal(join(storage_root(), bench.name, "journal", f"model={model.name}"), Responses)
    of_goals = [v for v in vectors if v.concept in goals and not v.control]

    @functools.cache
    def scored(seed: int) -> pl.DataFrame:
        drawn = {v.id: random_like(v, seed) for v in of_goals}
        backend.add_vectors(drawn.values())
        items = [_with(i, {old: new.id for old, new in drawn.items()}) for i in artifact.items]
        made = run_method(
            method, requests, request_goals, bench.goals,
            Run(journal, backend, seed=bench.seed, batch_size=bench.batch_size), artifact=Artifact(tuple(items)),
        )  # fmt: skip
        texts = pl.concat([made.outcomes.select("text_id", "text"), requests.select("text_id", "text")])
        values = measure_texts(bench, texts.unique("text_id"))
        return evaluate(requests, request_goals, made.outcomes, values, space, permutations=1, seed=0)[0]

    own = read("steerability", options.method).filter(pl.col("probe") == options.probe)
    plain = read("steerability", options.unsteered).filter(pl.col("probe") == options.probe)
    print(f"{options.method}: mean error {own['error_worst'].mean():.4f} (worst-case reading)")
    _print("unsteered", own, plain)
    worst = -np.inf
    for seed in range(options.random):
        worst = max(worst, _print(f"random direction {seed}", own, scored(seed)))
    print(f"closest upper bound over {options.random} random directions: {worst:+.4f}")


def _with(item: Item, ids: dict[str, str]) -> Item:
    """A dose with other vectors."""
    if item.kind != "dose":
        return item
    body = json.loads(json.dumps(item.body))
    for entry in body["interventions"]:
        entry["intervention"]["vector"] = ids[entry["intervention"]["vector"]]
    return Item(item.kind, body, item.goal, item.direction)


def _print(name: str, own: pl.DataFrame, other: pl.DataFrame) -> float:
    pairs = own.join(other, on="request_id", suffix="_other")
    found = paired_contrast(
        pairs["error_worst"].to_numpy(),
        pairs["error_worst_other"].to_numpy(),
        pairs["text_id"].to_numpy(),
        draws=2000,
        rng=np.random.default_rng(0),
    )
    assert found.high is not None
    print(
        f"  against {name:22} {found.control_value:.4f}: {found.difference:+.4f} [{found.low:+.4f}, {found.high:+.4f}]",
        flush=True,
    )
    return found.high


if __name__ == "__main__":
    assert Path("config").is_dir(), "run it from the repository's root"
    main()
