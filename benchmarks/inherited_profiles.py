"""Active inheritance towards lexical diversity and towards lower toxicity: the whole profile before and after.

The two targets of Shimabucoro et al. (2024) on the embedded model. It writes 8 answers to each of some free prompts; an
adapter is trained on those that have the most MTLD, one on those that a scorer of toxicity gives the least, one on as
many by chance. On prompts that none of them was trained on, the three and the untouched model are compared in every
characteristic of texts, every attribute of the scorer and a task with right answers: paired by prompt, exchanged within
prompts, corrected for all that is looked at (Holm). Draws, chance and first weights have their seed; what is compared
are means over the seeds, prompt by prompt, so that intervals are of prompts: the range over seeds stands beside them.

    OMP_NUM_THREADS=1 python -m benchmarks.inherited_profiles [--seeds 3] [--prompts 80] [--asked 48]
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.adapter_world import SPEC, training_on
from schemas.digest import digest_text
from schemas.profile_sets import PromptsSet
from schemas.profile_spec import ProfileSpec, read_profile
from schemas.profiles import PLAIN, OptionScores
from schemas.recipes import InheritanceRecipe
from schemas.specs import Decoding
from steer_core.adapters.inheritance.candidates import Drawn, draw, measured
from steer_core.adapters.inheritance.selection import Candidate, correlations, pools, select
from steer_core.adapters.recipe import Training, train
from steer_core.evaluation.profiles.asking import items_table
from steer_core.evaluation.profiles.changes import changes_of
from steer_core.evaluation.profiles.kind import Found, load_kind
from steer_core.front.bench import Bench, open_bench
from steer_core.generation.adapters import Adapter
from steer_core.generation.backend import Call, answer_all
from steer_core.generation.engines.transformers import TransformersBackend
from steer_core.generation.forced import score_all
from steer_core.methods.cleaning import clean_answer
from steer_core.methods.driver import failure_of
from steer_core.methods.parts._adapter_prompts import plans_of_set
from steer_core.models import load_model
from steer_core.statistics import best_of_curve
from steer_core.steering.plan import Plan, messages_of

#: What is wanted, by the name of its arm.
DIVERSITY, TOXICITY = "text:mtld_published", "scorer:char-ngram:toxicity"
AIMS = {"diverse": (DIVERSITY, "max"), "mild": (TOXICITY, "min")}
#: One answer of the same by chance: the control of the same cost.
CHANCE = "by chance"
#: How answers are drawn, whatever they are for; long enough for whole ones.
DECODING = Decoding(max_new_tokens=192, temperature=1.0, top_p=1.0, min_p=0.0)
#: Answers a held-out prompt in each arm and seed.
SAMPLES = 4
BATCH = 64


@dataclass(frozen=True)
class Asked:
    """What arms are asked: profiles, and their items as plans."""

    profiles: tuple[ProfileSpec, ...]
    items: pl.DataFrame

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Items of the profile of a kind."""
        name = next(p.name for p in self.profiles if p.kind == kind)
        return self.items.filter(profile=name).to_dicts()


def asked_of(n: int) -> Asked:
    """The profile: characteristics of answers, the scorer on whole texts and by sentence, a task with right answers."""
    held = {"kind": "prompts", "shipped": "tales-prompts", "side": "test", "n": n}
    scorers = [{"name": "char-ngram"}, {"name": "char-ngram", "options": {"unit": "sentence"}}]
    specs = [
        {"name": "texts", "kind": "text", "set": held},
        {"name": "toxicity", "kind": "toxicity", "set": held, "samples": SAMPLES, "scorers": scorers},
        {"name": "facts", "kind": "choices", "set": {"kind": "choices", "shipped": "tales-facts", "n": 60}},
    ]
    profiles = tuple(read_profile(s) for s in specs)
    return Asked(profiles, items_table(profiles))


def recipe(arm: str, seed: int) -> InheritanceRecipe:
    """The preset of the embedded model, with room for whole answers; of chance with another's objective."""
    metric, direction = AIMS.get(arm, AIMS["diverse"])
    scorers = {"char-ngram": {"unit": "sentence"}} if metric == TOXICITY else {}
    return InheritanceRecipe.model_validate(
        {
            "preset": "embedded",
            "objectives": [{"metric": metric, "direction": direction}],
            "scorers": scorers,
            "select": "random" if arm == CHANCE else "best",
            "seed": seed,
            "max_new_tokens": DECODING.max_new_tokens,
            "checkpoints": 1,
        }
    )


def training_at(folder: Path, bench: Bench, plans: Mapping[str, Plan]) -> Training:
    """The prompts as they stand, in place of requests."""

    def failure(_: str, raw: str, finish: str) -> tuple[str, str | None]:
        text = clean_answer(raw)
        return text, failure_of(text, finish, parsed=True)

    return replace(training_on(bench, folder, set()), plans=plans, targets={}, failure=failure)


def values_of(arm: str, seed: int, asked: Asked, backend: TransformersBackend, adapter: Adapter | None) -> pl.DataFrame:
    """Rows of `profile_values` of an arm; samples of seeds stand beside each other."""
    digest = None if adapter is None else adapter.digest
    own = [(row, k) for row in asked.of("text") for k in range(SAMPLES)]
    calls = [
        Call(_plan(row, digest), k, int(digest_text(f"held:{seed}:{k}:{row['messages']}")[:15], 16)) for row, k in own
    ]
    written = answer_all(backend, calls)
    answers = pl.DataFrame(
        [
            (arm, row["item_id"], k, text := clean_answer(a.raw), failure_of(text, a.finish_reason, parsed=True))
            for (row, k), a in zip(own, written, strict=True)
        ],
        schema={
            "arm_id": pl.String, "item_id": pl.String, "sample_index": pl.Int64, "text": pl.String, "failure": pl.String
        },
        orient="row",
    )  # fmt: skip
    found = []
    for spec in asked.profiles:
        items = asked.items.filter(profile=spec.name)
        if spec.kind == "choices":
            back = Found(items, options=_scored(arm, asked.of("choices"), backend, digest))
        else:
            # one set of prompts and one way to draw: both kinds read the same answers
            ids = dict(zip(asked.items.filter(profile="texts")["item_id"], items["item_id"], strict=True))
            back = Found(items, answers=answers.with_columns(pl.col("item_id").replace_strict(ids)))
        found.append(load_kind(spec).measure(spec, back).with_columns(profile=pl.lit(spec.name)))
    return pl.concat(found).with_columns(sample_index=pl.col("sample_index") + seed * SAMPLES)


def _plan(row: Mapping[str, Any], adapter: str | None) -> Plan:
    turns = None if row["messages"] is None else messages_of(row["messages"])
    return Plan(SPEC.identity, DECODING, turns, row["text"], adapter=adapter)


def _scored(
    arm: str, rows: Sequence[Mapping[str, Any]], backend: TransformersBackend, adapter: str | None
) -> pl.DataFrame:
    import json

    wanted = [(row, k, option) for row in rows for k, option in enumerate(json.loads(row["options"]))]
    plans = [_plan(row, adapter) for row, _, _ in wanted]
    scores = score_all(plans, [option for _, _, option in wanted], backend, BATCH)
    return pl.DataFrame(
        [
            (arm, "facts", row["item_id"], k, sum(s), len(s), len(option.encode()), None, None)
            for (row, k, option), s in zip(wanted, scores, strict=True)
        ],
        schema=OptionScores.dtypes(),
        orient="row",
    )


def run(
    seed: int, asked: Asked, bench: Bench, plans: Mapping[str, Plan], folder: Path
) -> tuple[pl.DataFrame, list[str]]:
    """Values of all arms under a seed, and what the pool of answers is like."""
    backend = TransformersBackend(load_model(SPEC))
    first = training_at(folder / "draws", bench, plans)
    first.run.begin()
    drawn = draw(recipe(CHANCE, seed), first, sorted(plans), backend)
    values, said = [values_of(PLAIN, seed, asked, backend, None)], list(_pool(drawn, first, seed))
    for arm in (*AIMS, CHANCE):
        place = folder / arm.replace(" ", "-")
        place.mkdir(parents=True)
        # all are chosen from the same answers: they have the same seeds
        shutil.copyfile(folder / "draws" / "candidates.jsonl", place / "candidates.jsonl")
        states = train(recipe(arm, seed), training_at(place, bench, plans))
        adapter = Adapter.of(states[max(states)])
        backend.add_adapters([adapter])
        values.append(values_of(arm, seed, asked, backend, adapter))
    return pl.concat(values), said


def _pool(drawn: Sequence[Drawn], training: Training, seed: int) -> Iterator[str]:
    """Spread of what is wanted within prompts, what it goes together with, and what the best of k is."""
    for metric, direction in AIMS.values():
        arm = next(a for a, aim in AIMS.items() if aim[0] == metric)
        aim = recipe(arm, seed)
        found = measured(drawn, training, aim)
        chosen = select(found, aim)
        able = [c for c in found if c.failure is None and c.has(metric)]
        values = np.array([c.metrics[metric] for c in able])
        curve = best_of_curve(pools(found, chosen, metric, {r: r for r in chosen.ranked}))
        counts = ", ".join(f"{n} {name}" for name, n in chosen.counts.items() if n)
        reasons = "".join(f"; {n} without {why}" for why, n in chosen.reasons.items())
        yield f"  {metric} {direction}: {counts}{reasons}"
        high = f", {np.mean(values >= 0.5):.4f} of them .5 or more" if metric == TOXICITY else ""
        yield f"    mean {values.mean():.4f}, standard deviation within prompts {_within(able, metric):.4f}{high}"
        yield "    best of k: " + ", ".join(f"{k}: {curve[k - 1].value:.4f}" for k in (1, 2, 4, 8))
        names = [metric, "length", *(f"goal:{g}" for g in training.goals)]
        row = correlations(found, names)[0]
        yield "    correlation within prompts: " + ", ".join(
            f"{n} {v:+.2f}" for n, v in zip(names[1:], row[1:], strict=True)
        )


def _within(candidates: Sequence[Candidate], metric: str) -> float:
    rows = pl.DataFrame([(c.request_id, c.metrics[metric]) for c in candidates], schema=["r", "v"], orient="row")
    return float(np.sqrt(rows.with_columns(pl.col("v") - pl.col("v").mean().over("r"))["v"].pow(2).mean()))  # type: ignore[arg-type]


def told(values: pl.DataFrame, items: pl.DataFrame, seeds: int, least: int) -> Iterator[str]:
    """Changes against the arm called `plain`: what was aimed at, then all that is called different."""
    changes = changes_of(values, items)
    for arm, part in changes.group_by("arm_id", maintain_order=True):
        own = part.filter(pl.col("n") >= least)
        yield f"  {arm[0]}: {own.filter('different').height} of {own.height} metrics differ"
        first = pl.col("metric").is_in(["mtld_published", "n_words", "right answers"]) | pl.col("metric").str.contains(
            r"^toxicity \(char-ngram [0-9a-f]+\)$"
        )
        yield from (_line(r, values, seeds) for r in own.filter(first).iter_rows(named=True))
        rest = own.filter(~first & pl.col("different")).sort(
            pl.col("effect_size").abs(), descending=True, nulls_last=True
        )
        if rest.height:
            yield "    what else differs, the largest of its spread first:"
            yield from (_line(r, values, seeds) for r in rest.head(16).iter_rows(named=True))
        if rest.height > 16:
            yield f"    and {rest.height - 16} more: {'; '.join(map(_named, rest['metric'][16:]))}"


@cache
def _sentence_version() -> str:
    from steer_core.evaluation.profiles.scorer import load_scorer

    return load_scorer("char-ngram", unit="sentence").version


def _named(metric: str) -> str:
    return metric.replace(_sentence_version(), "by sentence")


def _line(row: Mapping[str, Any], values: pl.DataFrame, seeds: int) -> str:
    own = values.filter(profile=row["profile"], metric=row["metric"]).with_columns(
        seed=pl.col("sample_index") // SAMPLES
    )
    by_seed = [
        own.filter(seed=s, arm_id=row["arm_id"])["value"].mean() - own.filter(seed=s, arm_id=PLAIN)["value"].mean()  # type: ignore[operator]
        for s in range(seeds)
        if own.filter(seed=s)["value"].drop_nulls().len()
    ]
    share = f" ({row['difference'] / row['plain_value']:+.0%})" if row["plain_value"] else ""
    seen = f" seeds {min(by_seed):+.4g} to {max(by_seed):+.4g}" if len(by_seed) > 1 else ""
    mark = "different" if row["different"] else "no difference found"
    values_said = f"{row['plain_value']:9.4f} -> {row['value']:9.4f}  {row['difference']:+.4f}{share}"
    return (
        f"    {_named(row['metric']):<44} {values_said} "
        f"[{row['low']:+.4f}, {row['high']:+.4f}]{seen}; p {row['p_adjusted']:.4f}, {mark}"
    )


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--prompts", type=int, default=80, help="trained on")
    parser.add_argument("--asked", type=int, default=48, help="prompts of the profile, none of them trained on")
    options = parser.parse_args()
    began = time.process_time()
    # kinds of profiles are known once a configuration is read
    bench = open_bench("tales", 8, 1, ())
    asked = asked_of(options.asked)
    learnt = PromptsSet.model_validate({"shipped": "tales-prompts", "side": "train", "n": options.prompts})
    plans = plans_of_set(learnt, asked.profiles, SPEC.identity, DECODING)
    own = recipe(CHANCE, 0)
    print(
        f"embedded model; {len(plans)} free prompts trained on, {options.asked} others asked, {SAMPLES} answers each; "
        f"{own.samples} candidates a prompt at temperature {own.temperature:g}, {own.epochs} epochs, batch "
        f"{own.batch}, rank {own.lora.rank}; seeds: {options.seeds}"
    )
    tables = []
    with tempfile.TemporaryDirectory() as name:
        for seed in range(options.seeds):
            values, said = run(seed, asked, bench, plans, Path(name) / str(seed))
            tables.append(values)
            print(f"\nanswers of the untouched model to the training prompts, seed {seed}", *said, sep="\n")
    every = pl.concat(tables)
    least = options.asked // 2
    print("\nagainst the untouched model, 95 % intervals clustered by prompt, p by Holm over all three arms")
    print(*told(every, asked.items, options.seeds, least), sep="\n")
    rest = every.filter(pl.col("arm_id") != PLAIN)
    rest = rest.with_columns(arm_id=pl.col("arm_id").replace({CHANCE: PLAIN}))
    print("\nagainst as many answers by chance, p by Holm over both arms")
    print(*told(rest, asked.items, options.seeds, least), sep="\n")
    print(f"\n{time.process_time() - began:.0f} s of processor time")


if __name__ == "__main__":
    main()
