"""SteerLM on the embedded model: what is asked by labels against what is measured, goal by goal, phase by phase.

Goals of the bench `tales` are the attributes, six levels each, asked for in words. As in the papers, what is learnt
first is a corpus that the model did not write: rewrites of short texts by the grammar, their attributes drawn apart
from each other, labelled by the ruler alone. A run trains on them with their labels, bootstraps once, and runs one
iteration of SteerLM 2.0; each phase leaves a state. On other texts the states, and the model without one, answer the
same label strings, greedily. There are two kinds:

* independent: a level for each goal, drawn by itself, so that most strings describe no text that the model ever wrote;
* own: labels measured on the untuned model's own rewrites of the same texts, so that there is a text that has them.

Intervals are clustered by text. Each training seed is shown, and their range stands beside the intervals. All seeds
learn from the same corpus; first weights, dropout, order, and whatever is drawn have their seed.

    OMP_NUM_THREADS=1 python -m benchmarks.steerlm [--seeds 3] [--folder RUNS] [--probe aside]

Settings were chosen with `--probe aside`: texts that are neither trained on nor tested on. With a folder, runs and
answers stay there, and what was interrupted is taken up again.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.adapter_world import SPEC, training_on
from schemas.specs import Decoding
from schemas.steerlm_recipe import SteerlmRecipe
from steer_core.adapters.recipe import Training, train
from steer_core.adapters.steerlm.annotating import ruler_of
from steer_core.adapters.steerlm.asking import LabelPrompt, asked_row, phrases_of
from steer_core.adapters.steerlm.fidelity import cross_talk, fidelity
from steer_core.front.bench import open_bench
from steer_core.generation.adapters import Adapter
from steer_core.generation.backend import Call, answer_all
from steer_core.generation.engines.transformers import TransformersBackend
from steer_core.models import load_model
from steer_core.models.embedded.grammar import MAX_SENTENCES, rewrite, write
from steer_core.statistics import Estimate, clustered_mean
from steer_core.steering.plan import Plan

Floats = NDArray[np.float64]
#: Texts that settings were chosen on, and that are tested on; rounds draw for the others.
ASIDE, TESTED = 32, 64
#: Texts that all are drawn from, and words that they have at most.
DRAWN, WORDS = 846, 40
#: Requests of a text of the bench, which are what rounds draw for; and rewrites that are learnt first.
REQUESTS, REWRITES = 4, 8_000
#: Probability that a rewrite has 1, 2 ... sentences.
SENTENCES = (0.2, 0.2, 0.15, 0.15, 0.15, 0.15)
#: The bench's texts (config/benches.yaml).
CORPUS_TEXTS, CORPUS_SEED = 4000, 7
#: Resamples of texts for Spearman's interval.
DRAWS = 1000
LEVELS = SteerlmRecipe.model_validate({"preset": "embedded"}).levels
BARE = "the same prompt, no adapter"
#: What each phase's last state is called.
ARMS = {"conditioned": "conditioned training", "round 1": "+ bootstrapping", "iteration 1": "+ SteerLM 2.0"}
#: By how much a phase may worsen the error, in shares of the range; and what Spearman is to be, on how many goals.
WORSE, LEAST, GOALS = 0.05, 0.8, 3


def recipe(seed: int, corpus: Path) -> SteerlmRecipe:
    """The preset of the embedded model on a corpus, with one iteration of SteerLM 2.0."""
    given = {"preset": "embedded", "demonstrations": str(corpus.resolve()), "iterations": 1, "seed": seed}
    return SteerlmRecipe.model_validate(given)


def short(text: str) -> bool:
    return len(text.split()) <= WORDS


def write_corpus(file: Path, left_out: set[str]) -> None:
    """Rewrites by the grammar of short texts of the bench, with attributes that are independent of each other."""
    known = [t for t in write(CORPUS_TEXTS, CORPUS_SEED) if short(t.text) and t.text not in left_out]
    rng, rows = np.random.default_rng(3), []
    for _ in range(REWRITES):
        source = known[int(rng.integers(len(known)))]
        levels = {name: int(rng.integers(-2, 3)) for name in ("difficulty", "formality", "sentiment")}
        levels["sentences"] = 1 + int(rng.choice(MAX_SENTENCES, p=SENTENCES))
        rows.append({"source": source.text, "answer": rewrite(source, levels, rng).text})
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def asks(held: Training) -> LabelPrompt:
    """The prompt of all arms."""
    return LabelPrompt(held.goals, LEVELS, phrases={g: phrases_of(*words) for g, words in held.comparatives.items()})


@dataclass(frozen=True)
class Asked:
    """Label strings that all arms answer.

    Attributes:
        kind: `independent` or `own`.
        texts: source of each, shape [n].
        levels: shape [n, goals].
        plans: prompts.
    """

    kind: str
    texts: NDArray[np.str_]
    levels: Floats
    plans: tuple[Plan, ...]


def asked_for(kind: str, held: Training, labels: Sequence[Mapping[str, int]], texts: Sequence[str]) -> Asked:
    """Label strings as prompts."""
    prompt, some = asks(held), next(iter(held.plans.values()))
    plans = tuple(replace(some, messages=prompt.messages(a, t)) for a, t in zip(labels, texts, strict=True))
    return Asked(kind, np.array(texts), np.stack([asked_row(a, prompt) for a in labels]), plans)


def independent(held: Training, texts: Sequence[str], each: int) -> Asked:
    """Levels drawn goal by goal, uniformly."""
    rng = np.random.default_rng(2024)
    every = [t for t in texts for _ in range(each)]
    levels = rng.integers(LEVELS, size=(len(every), len(held.goals))).tolist()
    return asked_for("independent", held, [dict(zip(held.goals, row, strict=True)) for row in levels], every)


def own(held: Training, direct: Training, each: int, backend: TransformersBackend) -> Asked:
    """Levels of the untuned model's rewrites, drawn under the plain request; those that failed are left out."""
    prompt, of_text = asks(held), dict[str, list[str]]()
    for r in sorted(direct.plans):
        of_text.setdefault(direct.targets[r].source, []).append(r)
    requests = [r for found in of_text.values() for r in found[:each]]
    drawn = Decoding(max_new_tokens=192, temperature=1.0, top_p=1.0)
    calls = [Call(replace(direct.plans[r], decoding=drawn), 0, k) for k, r in enumerate(requests)]
    found = zip(requests, answer_all(backend, calls), strict=True)
    answers = [(r, *direct.failure(r, a.raw, a.finish_reason)) for r, a in found]
    able = [(direct.targets[r].source, text) for r, text, failure in answers if failure is None]
    values = ruler_of(held, prompt)([text for _, text in able])
    return asked_for("own", held, [prompt.labels_of(v) for v in values], [source for source, _ in able])


def measured(backend: TransformersBackend, held: Training, asked: Asked, state: Path | None, kept: Path) -> Floats:
    """Levels of greedy answers, shape [n, goals]; NaN where an answer failed."""
    if kept.exists():
        return np.asarray(np.load(kept))
    digest = None
    if state is not None:
        adapter = Adapter.of(state)
        backend.add_adapters([adapter])
        digest = adapter.digest
    request_of = {t.source: r for r, t in held.targets.items()}
    found = answer_all(backend, [Call(replace(p, adapter=digest), 0, 0) for p in asked.plans])
    answers = [
        held.failure(request_of[str(t)], a.raw, a.finish_reason) for t, a in zip(asked.texts, found, strict=True)
    ]
    able = [k for k, (_, failure) in enumerate(answers) if failure is None]
    levels = np.full(asked.levels.shape, np.nan)
    if able:
        levels[able] = ruler_of(held, asks(held))([answers[k][0] for k in able])
    kept.parent.mkdir(parents=True, exist_ok=True)
    np.save(kept, levels)
    return levels


def errors(asked: Asked, levels: Floats) -> Floats:
    """|asked - measured| in shares of the range, shape [n, goals]; failures at their worst."""
    top = LEVELS - 1
    worst = np.maximum(asked.levels, top - asked.levels)
    return np.where(np.isnan(levels), worst, np.abs(asked.levels - levels)) / top


def said(e: Estimate, digits: int = 3) -> str:
    if e.value is None:
        return "-"
    ends = "" if e.low is None else f" [{e.low:.{digits}f}, {e.high:.{digits}f}]"
    return f"{e.value:.{digits}f}{ends}"


def over_seeds(values: Floats, texts: NDArray[np.str_]) -> str:
    """Mean over seeds [seeds, n] with its interval over texts, and the seeds' own means."""
    each = ", ".join(f"{v:+.3f}" for v in values.mean(1))
    found = clustered_mean(values.mean(0), texts)
    return f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}]; seeds {each}"


def write_down(asked: Asked, arms: Mapping[str, Floats], goals: Sequence[str]) -> None:
    """All figures of a kind; arms: levels of shape [seeds, n, goals]."""
    attributes = LabelPrompt(tuple(goals), LEVELS).attributes
    texts = asked.texts
    print(f"\nlabels: {asked.kind}; {len(texts)} label strings on {len(set(texts))} texts")
    rng = np.random.default_rng(0)
    reached: dict[str, int] = {}
    for arm, levels in arms.items():
        failed = ", ".join(f"{int(np.isnan(seed).all(1).sum())}" for seed in levels)
        print(f"  {arm}; failed: {failed}")
        found = [fidelity(asked.levels, seed, attributes, texts, draws=DRAWS, rng=rng) for seed in levels]
        off = np.stack([errors(asked, seed) for seed in levels])  # [seeds, n, goals]
        for k, goal in enumerate(goals):
            print(f"    {goal:<19} error  {over_seeds(off[:, :, k], texts)}")
            print(f"    {'':<19} Spearman    {'; '.join(said(f.attributes[k].spearman) for f in found)}")
            print(f"    {'':<19} concordance {'; '.join(said(f.attributes[k].concordance) for f in found)}")
        print(f"    {'all goals':<19} error  {over_seeds(off.mean(2), texts)}")
        reached[arm] = min(
            sum((f.attributes[k].spearman.value or 0.0) >= LEAST for k in range(len(goals))) for f in found
        )
    print("  cross-talk: rows are asked, columns measured; slopes in shares of the ranges, mean over seeds")
    for arm, levels in arms.items():
        slopes, left_out = cross_talk(asked.levels, levels.mean(0), attributes, texts)
        print(f"    {arm}; {left_out} label strings left out, as a seed failed on them")
        for k, goal in enumerate(goals):
            row = slopes[k * len(goals) : (k + 1) * len(goals)]
            print(f"      {goal:<19} {'  '.join(f'{said(s.slope, 2):<22}' for s in row)}")
    print("  differences of the error over all goals, paired by label string")
    names = list(arms)
    for before, after in [*pairwise(names), (names[1], names[-1])]:
        gap = np.stack([errors(asked, s).mean(1) for s in arms[after]]) - np.stack(
            [errors(asked, s).mean(1) for s in arms[before]]
        )
        print(f"    {after} less {before}: {over_seeds(gap, texts)}")
        if before != names[0]:
            high = clustered_mean(gap.mean(0), texts).high
            print(f"      worse by less than {WORSE}: {'yes' if high is not None and high < WORSE else 'NO'}")
    for arm in names[1:]:
        print(
            f"    Spearman of at least {LEAST} in every seed: {arm}: {reached[arm]} of {len(goals)} goals "
            f"({GOALS} wanted: {'met' if reached[arm] >= GOALS else 'NOT MET'})"
        )


def write_log(training: Training, seed: int) -> None:
    """What the run says of itself."""
    rows = training.run.rows("log")
    told = {r["measure"]: r["value"] for r in rows if r["measure"].startswith(("answers:", "weights:"))}
    print(f"  seed {seed}, last phase: {', '.join(f'{k} {v:.4g}' for k, v in told.items())}")
    fall = [r["value"] for r in rows if r["measure"] == "divergence"]
    if fall:
        steps = f"{len(fall)} steps"
        print(f"    KL(w' || b') of a step's requests, over {steps}: {', '.join(f'{v:.3f}' for v in fall)}")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--each", type=int, default=2, help="label strings of a text, of each kind")
    parser.add_argument("--probe", choices=("test", "aside"), default="test")
    parser.add_argument("--folder", help="where runs and answers lie")
    options = parser.parse_args()
    bench = open_bench("tales", DRAWN, REQUESTS, ())
    every = sorted(t for t in set(bench.probe.requests["text"]) if short(t))
    # an order that has nothing to do with the texts
    every = [every[i] for i in np.random.default_rng(0).permutation(len(every))]
    aside, tested, rest = every[:ASIDE], every[ASIDE:][:TESTED], every[ASIDE + TESTED :]
    learnt = set(rest)
    held_out = aside if options.probe == "aside" else tested
    with tempfile.TemporaryDirectory() if options.folder is None else nullcontext(options.folder) as name:
        place = Path(name)
        held = training_on(bench, place / "held", set(held_out), "labelled")
        backend = TransformersBackend(load_model(SPEC))
        kinds = [
            independent(held, held_out, options.each),
            own(held, training_on(bench, place / "direct", set(held_out)), options.each, backend),
        ]
        arms: dict[str, dict[str, list[Floats]]] = {k.kind: {BARE: []} for k in kinds}
        for asked in kinds:
            kept = place / f"answers-{options.probe}" / f"{asked.kind}-bare.npy"
            arms[asked.kind][BARE].append(measured(backend, held, asked, None, kept))
        corpus = place / "corpus.jsonl"
        write_corpus(corpus, {*aside, *tested})
        runs = []
        for seed in range(options.seeds):
            training = training_on(
                bench, place / f"seed-{seed}", learnt, "labelled", (), lambda x: print(x, file=sys.stderr, flush=True)
            )
            runs.append(training)
            states = train(recipe(seed, corpus), training)
            for (phase, arm), (_, state) in zip(ARMS.items(), sorted(states.items()), strict=True):
                for asked in kinds:
                    kept = place / f"answers-{options.probe}" / f"{asked.kind}-{seed}-{phase}.npy"
                    arms[asked.kind].setdefault(arm, []).append(measured(backend, held, asked, state, kept))
    r = recipe(0, corpus)
    print(
        f"tales, embedded model; {REWRITES} rewrites trained on, {r.epochs} epochs; {len(learnt)} texts for "
        f"rounds, {len(held_out)} held out ({options.probe}); in a round {r.round_samples} and {r.round_epochs}; in an "
        f"iteration {r.answers} and {r.iteration_epochs}; batch {r.batch}, rates {r.learning_rate:g} and "
        f"{r.iteration_rate:g}, rank {r.lora.rank}, dropout {r.dropout:g}; asked: {r.ask}; "
        f"labels by the {r.annotator}; seeds: "
        f"{options.seeds}. Errors are shares of the range of levels (one level: {1 / (LEVELS - 1):.3f})"
    )
    for seed, training in enumerate(runs):
        write_log(training, seed)
    for asked in kinds:
        write_down(asked, {arm: np.stack(levels) for arm, levels in arms[asked.kind].items()}, held.goals)


if __name__ == "__main__":
    main()
