"""Sweep a behavior over strengths of a vector, with its controls."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from schemas import Responses
from schemas.specs import BehaviorSpec, SweepSpec
from schemas.vector_part import VectorPart
from steer_core.front.arguments import folders, instance, spec_of
from steer_core.front.model import Model
from steer_core.front.vector import Vector
from steer_core.generation.run import Run
from steer_core.tables.journal import Journal

#: Draws of the rank correlations' intervals.
DRAWS = 1000


@dataclass(frozen=True)
class Swept:
    """What a vector did to a behavior.

    Attributes:
        behavior: its name.
        summary: rows of `arm_summary`.
        findings: rows of `sweep_findings`.
        answers: strength, prompt and answer.
    """

    behavior: str
    summary: pl.DataFrame
    findings: pl.DataFrame
    answers: pl.DataFrame

    def __repr__(self) -> str:
        effects = self.findings.filter(pl.col("finding").is_in(["effect_low", "effect_high"]))
        best = (
            effects.filter(measure="judged")
            if "judged" in set(effects["measure"])
            else effects.filter(measure="propensity")
        )
        said = ", ".join(
            f"{r['finding'].removeprefix('effect_')} {r['value']:+.2f}"
            for r in best.iter_rows(named=True)
            if r["value"] is not None
        )
        return f"Swept({self.behavior!r}, {self.answers['strength'].n_unique()} strengths, effect: {said or 'none'})"


def sweep(
    model: Model,
    vector: Vector,
    behavior: str | BehaviorSpec,
    strengths: Sequence[float],
    *,
    random_directions: int = 19,
    max_new_tokens: int = 48,
    config: Sequence[str] = (),
) -> Swept:
    """Sweep a behavior over strengths of a vector, beside random directions of equal size.

    Args:
        model: what answers.
        vector: of the behavior.
        behavior: one of the configuration by name, or a spec of your own; judged by what the spec says, where that is
            the ground truth of the grammar; log-odds of given answers are measured in any case.
        strengths: in the vector's unit.
        random_directions: controls; with fewer than 19 no effect can be told from them.
        max_new_tokens: of open answers.
        config: further configuration folders.

    Raises:
        ConfigError: no such behavior, one without test items, or strengths and sizes that make no sense.
    """
    from steer_core.corpus.contrasts import build_contrasts
    from steer_core.evaluation.arms import answers, choices, measures
    from steer_core.evaluation.behaviors import as_items, side_effects, summary
    from steer_core.evaluation.judges import judge as judging
    from steer_core.evaluation.judges.load import load_judge
    from steer_core.evaluation.refusals import is_refusal
    from steer_core.methods.cleaning import clean_answer
    from steer_core.methods.sweeps.arms import plan_arms, with_random
    from steer_core.registry import load_registry, shipped_config

    instance("model", model, Model, "what `steer_core.load` gives")
    instance("vector", vector, Vector, "one that `fit` or `read_vector` gave")
    instance("behavior", behavior, str | BehaviorSpec, "a name or a BehaviorSpec")
    layers = tuple(sorted({p.layer for p in vector.parts}))
    tried = {"unit": vector.unit, "strengths": list(strengths) if isinstance(strengths, Sequence) else strengths}
    part = spec_of(VectorPart, "sweep", estimator=vector.parts[0].estimator, layers=layers, **tried)
    controls = {"random_directions": random_directions, "shuffled": 0, "max_new_tokens": max_new_tokens}
    sweep_spec = spec_of(SweepSpec, "sweep", **controls)
    configured: list[str | Path] = [shipped_config(), *folders(config)]
    spec = load_registry(configured).behavior(behavior) if isinstance(behavior, str) else behavior
    items = build_contrasts(spec).items
    own = [replace(p, concept=spec.name, lineage={**p.lineage, "seed": 0}) for p in vector.parts]
    known = with_random(own, spec.name, sweep_spec, layers=layers)
    arms = plan_arms(spec, part, sweep_spec, known, items, layers=layers)
    asked, decoding = as_items.asked_of(arms, items), sweep_decoding(sweep_spec)
    as_items.give_vectors(model.backend, asked, known)
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Journal(folder, Responses), model.backend)
        swept = answers.write(asked, run, decoding, clean=clean_answer)
        found = [
            choices.score(asked, run, decoding, as_items.choice_measures),
            measures.form_scores(swept, asked),
            measures.text_scores(swept, asked, lambda texts: [{"refused": float(is_refusal(t))} for t in texts]),
            measures.perplexity_scores(swept, asked, run, decoding),
        ]
    if spec.judge.kind == "ground_truth":
        judge = load_judge(spec)
        verdicts = judging.judge_cases(judge, judging.cases_of(swept.answers, items))
        found.append(side_effects.judged_scores(swept.answers, asked, verdicts, judge_id=judge.judge_id))
    table, findings = summary.summarise_arms(arms, pl.concat(found), draws=DRAWS, seed=0)
    said = (
        swept.answers.join(arms.filter(pl.col("role").is_in(["off", "vector"])), on="arm_id")
        .join(items.select("item_id", prompt="messages"), on="item_id")
        .select("strength", "prompt", "text")
    )
    return Swept(spec.name, table, findings, said)


def sweep_decoding(spec: SweepSpec) -> Any:
    """How a sweep's open answers are drawn."""
    from schemas.specs import Decoding

    return Decoding(max_new_tokens=spec.max_new_tokens, temperature=spec.temperature)
