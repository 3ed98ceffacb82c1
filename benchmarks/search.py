"""A search beside a grid on the embedded model, both chosen on validation questions: `python -m benchmarks.search`.

What is searched: one layer of four or two neighbours, the strength, all positions or those of the answer, for the
judged effect of a behavior of the grammar. The grid is what a sweep would try: every one of those at twelve strengths.
Cost is answers that were asked for on validation questions. What each chose is told on test questions, paired: the
grid's, random search's at the same number of trials, and random directions in the place of the vector.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from typing import Any

import numpy as np
import polars as pl

from schemas import Responses, Trials
from schemas.specs import BehaviorSpec, Decoding, ModelSpec
from schemas.vector_part import VectorPart
from steer_core.corpus.contrasts import build_contrasts
from steer_core.evaluation.judges.load import load_judge
from steer_core.generation.engines.transformers import TransformersBackend
from steer_core.generation.run import Run
from steer_core.methods.search import Measurer, Objective, Space, Study, search, tell, validation_items
from steer_core.methods.search.report import beside, values_of
from steer_core.models.loading import load_model
from steer_core.tables.journal import Journal
from steer_core.vectors.fit import Job, fit_many

SPACE = Space(
    layers=((0,), (1,), (2,), (3,), (0, 1), (1, 2), (2, 3)), strength=(0.05, 1.2), positions=("all", "completion")
)
STRENGTHS = tuple(0.1 * k for k in range(1, 13))
OBJECTIVE = (Objective("judged"),)


def main() -> None:
    """Print what each way found, and what it cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--questions", type=int, default=24)
    options = parser.parse_args()
    loaded = load_model(ModelSpec(name="embedded", source="embedded", device="cpu"))
    for attribute in ("sentiment", "formality"):
        with tempfile.TemporaryDirectory() as folder:
            compare(loaded, attribute, folder, options.trials, options.questions)
    with tempfile.TemporaryDirectory() as folder:
        overhead(folder)


def compare(loaded: Any, attribute: str, folder: str, trials: int, questions: int) -> None:
    """One behavior."""
    source = {"kind": "grammar", "attribute": attribute, "positive": 2, "negative": -2, "n_pairs": 256,
              "n_validation": questions, "n_items": 2 * questions}  # fmt: skip
    behavior = BehaviorSpec.model_validate({"name": attribute, "source": source})
    made = build_contrasts(behavior)
    part = VectorPart.model_validate(
        {"kind": "vector", "estimator": "mean-difference", "layers": [0, 1, 2, 3], "strengths": [0.5]}
    )
    fitted = made.examples.filter(pl.col("split") == "train")
    (vectors,) = fit_many(loaded, fitted, [Job(part, layers=(0, 1, 2, 3), concepts=(attribute,))])
    backend = TransformersBackend(loaded, vectors)
    run = Run(Journal(f"{folder}/responses", Responses), backend, batch_size=64)
    judge, decoding = load_judge(behavior), Decoding(max_new_tokens=48)

    def measurer(items: pl.DataFrame) -> Measurer:
        return Measurer(attribute, items, run, decoding, ("judged",), judge)

    chosen_by = measurer(validation_items(attribute, made.preferences))
    tested = measurer(made.items.filter(pl.col("group") == "main"))
    grid = SPACE.grid(STRENGTHS)
    start = time.monotonic()
    means = [chosen_by.measure(SPACE.steps(SPACE.setting(p), vectors)).mean("judged") for p in grid]
    cost = len(grid) * questions
    best = int(np.argmax([-np.inf if m is None else m for m in means]))
    print(f"{attribute}: grid of {len(grid)} settings, {cost} answers, {time.monotonic() - start:.0f} s")
    told = tell(study(folder, "none"), tested, vectors, params=grid[best], validation=float(means[best] or 0.0))
    print(f"  grid:          {told}; gap {told.gap:+.2f}")
    theirs = values_of(study(folder, "none"), tested, vectors, grid[best])
    for sampler in ("tpe", "random"):
        start = time.monotonic()
        own = search(study(folder, sampler), chosen_by, vectors, trials)
        spent, seconds = int(own.trials["answers"].sum()), time.monotonic() - start
        found = tell(own, tested, vectors, random_directions=19 if sampler == "tpe" else 0)
        paired = beside(values_of(own, tested, vectors, found.params), theirs)
        lower = 100.0 * (paired.low or 0.0) / (told.effect.difference or 1.0)
        print(f"  {sampler:14s} {found}; gap {found.gap:+.2f}")
        ended = own.trials.filter(state="pruned").height
        share = f"{spent} answers: {spent / cost:.0%} of the grid's"
        print(f"    {trials} trials ({ended} ended early), {share}, {seconds:.0f} s")
        print(
            f"    less the grid's arm {paired.difference:+.2f} [{paired.low:+.2f}, {paired.high:+.2f}]: lower end "
            f"{lower:+.0f} % of its effect",
            flush=True,
        )


def study(folder: str, sampler: str) -> Study:
    """A study of its own in a folder."""
    chosen = "random" if sampler == "random" else "tpe"
    return Study(SPACE, OBJECTIVE, Journal(f"{folder}/trials-{sampler}", Trials), sampler=chosen)  # type: ignore[arg-type]


def overhead(folder: str) -> None:
    """Seconds that a trial costs by itself, without a model."""
    own = Study(SPACE, OBJECTIVE, Journal(f"{folder}/trials", Trials))
    rng, times = np.random.default_rng(0), []
    for _ in range(500):
        start = time.perf_counter()
        _, params = own.propose()
        value = float(params["strength"] + rng.normal())
        own.hopeless({4: value})
        own.finish(params, {"judged": value}, reports={4: value}, items=4, answers=4)
        times.append(time.perf_counter() - start)
    for first, last in ((0, 100), (400, 500)):
        print(f"overhead of trials {first} to {last}: {1000 * np.median(times[first:last]):.0f} ms (median)")
    again = Study(SPACE, OBJECTIVE, Journal(f"{folder}/trials", Trials))
    start = time.perf_counter()
    again.propose()
    print(f"a study of {len(again)} trials is read again, and proposes, in {time.perf_counter() - start:.1f} s")
    same = [json.loads(r)["strength"] for r in again.trials["params"]] == [
        json.loads(r)["strength"] for r in own.trials["params"]
    ]
    print(f"the same trials: {same}")


if __name__ == "__main__":
    main()
