"""Measure a method on a probe, compare two, score answers made elsewhere, sweep a behavior."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import polars as pl

from schemas import Responses
from schemas.parts import PartSpec
from schemas.specs import BehaviorSpec, MethodSpec, ModelSpec, SweepSpec
from schemas.vector_part import VectorPart
from steer_core.front.bench import Bench, open_bench
from steer_core.front.model import Model
from steer_core.front.vector import Vector
from steer_core.methods.part import Composed, Part
from steer_core.methods.protocol import Artifact, Choose, FitResponse, Method, Observation, Request, Setting, Traits
from steer_core.steering.plan import Message, Plan
from steer_core.tables.errors import ConfigError, SteerworksError
from steer_core.tables.journal import Journal

#: Shuffles behind the rank p of listening, and draws of medians' intervals.
SHUFFLES, DRAWS = 200, 1000


@dataclass(frozen=True)
class Measured:
    """What a method did on a probe.

    Attributes:
        name: of the method.
        tables: table name -> rows, as the pipeline would publish them.
        bench: what it was measured on.
        model: name of the model; empty where none was asked.
    """

    name: str
    tables: Mapping[str, pl.DataFrame]
    bench: Bench
    model: str = ""

    def __repr__(self) -> str:
        error = self._figure("error", "worst")
        if error is None:
            return f"Measured({self.name!r}, nothing could be measured)"
        rows = self.tables["steerability"]
        return (
            f"Measured({self.name!r}, error {error['value']:.3f} [{_end(error['low'])} to {_end(error['high'])}], "
            f"{rows.height} requests on {rows['text_id'].n_unique()} texts)"
        )

    def _figure(self, measure: str, reading: str) -> dict[str, Any] | None:
        rows = self.tables["steerability_summary"].filter(
            measure=measure, goal="overall", reading=reading, statistic="mean"
        )
        return rows.row(0, named=True) if rows.height and rows["value"][0] is not None else None

    @property
    def sentences(self) -> tuple[str, ...]:
        """What the page says first."""
        from steer_core.reports.headline import headline
        from steer_core.reports.inputs import headline_probe, of_probe

        cell = self._cell()
        return headline(of_probe(cell, headline_probe(cell))).sentences

    @property
    def answers(self) -> pl.DataFrame:
        """Request, source and answer, with the error of each."""
        t = self.tables
        return (
            t["requests"]
            .select("request_id", source="text")
            .join(t["outcomes"].select("request_id", answer="text", failed="failure"), on="request_id")
            .join(t["steerability"].select("request_id", "requested", "error"), on="request_id")
        )

    def page(self, folder: str | Path) -> Path:
        """Write the method's page with its stills and tables; returns the page to open in a browser."""
        from steer_core.reports import build_cell_report

        report = build_cell_report(self._cell())
        for name, data in report.files.items():
            target = Path(folder) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        return Path(folder) / "report.html"

    def _cell(self) -> Any:
        from steer_core.reports import CellTables

        t = self.tables
        return CellTables(
            model=self.model or "none",
            method=self.name,
            bench=self.bench.spec.name,
            requests=t["requests"],
            request_goals=t["request_goals"],
            outcomes=t["outcomes"],
            responses=t["responses"],
            steerability=t["steerability"],
            movements=t["goal_movements"],
            summary=t["steerability_summary"],
            comparisons=t["comparisons"],
            side_effects=t["side_effects"],
            goal_space=self.bench.space,
            probe_diagnostics=self.bench.probe.diagnostics,
            goals=self.bench.goals,
        )


def _end(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def measure(
    method: str | MethodSpec,
    model: Model | None = None,
    *,
    bench: str = "tales",
    texts: int | None = 16,
    requests: int | None = 4,
    vector: Vector | None = None,
    strength: float | None = None,
    config: Sequence[str] = (),
    seed: int = 0,
) -> Measured:
    """Measure a method on the headline probe of a bench, beside doing nothing.

    Args:
        method: a method of the configuration by name (`direct`, `best-of-8` ...), or a prompt of your own with `{text}`
            where the source goes and, if you like, `{request}` where what is asked goes in words.
        model: what answers; None: the embedded model.
        bench: bench by name.
        texts: source texts; None: as many as the bench has.
        requests: requests a text; None: as many as the bench has.
        vector: also steers every answer, at `strength`.
        strength: in the vector's unit.
        config: further configuration folders.
        seed: of prompts and sampling.

    Raises:
        ConfigError: no such bench or method, or one that is fitted first (use the pipeline for those).
        SteerworksError: a strength without a vector.
    """
    from steer_core.front.model import load
    from steer_core.methods.driver import run_method

    here = open_bench(bench, texts, requests, tuple(config))
    spec, name = _method(method, here)
    asking = model or load("embedded")
    if (vector is None) != (strength is None):
        raise SteerworksError("a vector comes with a strength: pass both, or neither")
    built = _built(spec, method, asking.loaded.spec, here)
    if built.traits.fits_on is not None:
        raise ConfigError(
            f"method {name!r} is fitted on a training pool first: run it as a cell (`python -m steer_assets`)"
        )
    if vector is not None and strength is not None:
        asking.backend.add_vectors(vector.parts)
        built = Composed(built, (cast(Part, _Fixed(vector, strength)),), built.traits)
        name = f"{name}+{vector.name}@{strength:g}"
    with tempfile.TemporaryDirectory() as folder:
        run = run_method(
            built,
            here.probe.requests,
            here.probe.request_goals,
            here.spec.goals,
            artifact=Artifact(),
            backend=asking.backend if built.traits.calls_model else None,
            journal=Journal(folder, Responses),
            ruler=here.ruler if built.traits.measures else None,
            seed=seed,
            batch_size=here.spec.batch_size,
        )
    return _scored(name, here, run.responses, run.outcomes, asking.loaded.spec.name)


def score_answers(
    answers: Mapping[str, str] | Iterable[tuple[str, str]],
    *,
    bench: str = "tales",
    texts: int | None = 16,
    requests: int | None = 4,
    config: Sequence[str] = (),
    name: str = "elsewhere",
) -> Measured:
    """Score answers that were made elsewhere.

    Args:
        answers: request id -> answer, for every request of `probe(...)`; an empty answer is a failure.
        bench: as `measure`; with what follows it decides the requests.
        texts: as `measure`.
        requests: as `measure`.
        config: as `measure`.
        name: what the answers are called.

    Raises:
        SteerworksError: a request has no answer, or an answer no request; says how many and which.
    """
    from steer_core.methods.driver import run_method

    here = open_bench(bench, texts, requests, tuple(config))
    given = dict(answers)
    wanted = here.probe.requests["request_id"].to_list()
    strangers, missing = sorted(set(given) - set(wanted)), [i for i in wanted if i not in given]
    if strangers or missing:
        raise SteerworksError(
            f"{len(missing)} of {len(wanted)} requests have no answer (first: {', '.join(missing[:2]) or 'none'}) and "
            f"{len(strangers)} answers belong to no request (first: {', '.join(strangers[:2]) or 'none'}): ask for the "
            "requests with `measure('copy', ...).tables['requests']`, with the same bench, texts and requests"
        )
    with tempfile.TemporaryDirectory() as folder:
        run = run_method(
            _Given(given),
            here.probe.requests,
            here.probe.request_goals,
            here.spec.goals,
            artifact=Artifact(),
            backend=None,
            journal=Journal(folder, Responses),
            ruler=None,
            seed=0,
            batch_size=1,
        )
    return _scored(name, here, run.responses, run.outcomes, "")


def compare(one: Measured, other: Measured) -> str:
    """Whether one method is better than another, request by request, in a sentence.

    Raises:
        SteerworksError: they were measured on different requests.
    """
    return compare_scores(one.name, one.tables["steerability"], other.name, other.tables["steerability"])


def compare_scores(one: str, scores: pl.DataFrame, other: str, other_scores: pl.DataFrame) -> str:
    """`compare` on rows of `schemas.Steerability`, under two names; the headline arm of each."""
    from schemas.evaluation import HEADLINE
    from steer_core.evaluation.columns import to_array
    from steer_core.statistics import paired_contrast

    a, b = (
        s.filter(arm_id=HEADLINE).select("request_id", "text_id", "error_worst", "goal_space_id")
        for s in (scores, other_scores)
    )
    if set(a["goal_space_id"]) != set(b["goal_space_id"]):
        raise SteerworksError(f"{one} and {other} were measured in different goal spaces: measure both again")
    if set(a["request_id"]) != set(b["request_id"]):
        raise SteerworksError(
            f"{one} and {other} answered different requests: measure both with the same bench, texts and requests"
        )
    paired = a.join(b.select("request_id", other="error_worst"), on="request_id")
    found = paired_contrast(to_array(paired["error_worst"]), to_array(paired["other"]), paired["text_id"].to_numpy())
    span = f"[{_end(found.low)} to {_end(found.high)}]"
    size = f"{found.difference:+.3f} {span} of error, {found.n} requests on {found.n_clusters} texts"
    if found.low is None or found.high is None:
        return f"{one} against {other}: too few texts for an interval ({size})."
    if found.high < 0:
        return f"{one} is better than {other}: {size}."
    if found.low > 0:
        return f"{one} is worse than {other}: {size}."
    return f"{one} and {other} cannot be told apart: {size}."


def _scored(name: str, here: Bench, responses: pl.DataFrame, outcomes: pl.DataFrame, model: str) -> Measured:
    from steer_core.evaluation import compare as contrast
    from steer_core.evaluation import evaluate, side_effects, summarise

    asked, goals = here.probe.requests, here.probe.request_goals
    values = here.values_of(outcomes)
    scores, movements = evaluate(asked, goals, outcomes, values, here.space)
    controls = {} if name == "copy" else {"copy": _copied(here)}
    tables = {
        "requests": asked,
        "request_goals": goals,
        "responses": responses,
        "outcomes": outcomes,
        "goal_values": values,
        "steerability": scores,
        "goal_movements": movements,
        "steerability_summary": summarise(scores, movements, draws=DRAWS, seed=0),
        "comparisons": contrast(scores, movements, controls, permutations=SHUFFLES, seed=0),
        "side_effects": side_effects(movements, scores),
    }
    return Measured(name, tables, here, model)


def _copied(here: Bench) -> pl.DataFrame:
    """Scores of returning every source: what doing nothing costs."""
    sources = dict(here.probe.requests.select("request_id", "text").iter_rows())
    from steer_core.evaluation import evaluate
    from steer_core.methods.driver import run_method

    with tempfile.TemporaryDirectory() as folder:
        run = run_method(
            _Given(sources),
            here.probe.requests,
            here.probe.request_goals,
            here.spec.goals,
            artifact=Artifact(),
            backend=None,
            journal=Journal(folder, Responses),
            ruler=None,
            seed=0,
            batch_size=1,
        )
    asked, goals = here.probe.requests, here.probe.request_goals
    return evaluate(asked, goals, run.outcomes, here.values_of(run.outcomes), here.space)[0]


def _method(method: str | MethodSpec, here: Bench) -> tuple[MethodSpec | None, str]:
    if isinstance(method, MethodSpec):
        return method, method.name
    if not isinstance(method, str):
        raise ConfigError(f"a method is a name or a prompt with {{text}}; got {type(method).__name__}")
    if "{text}" in method:
        return None, "own-prompt"
    return here.registry.method(method), method


def _built(spec: MethodSpec | None, method: str | MethodSpec, model: ModelSpec, here: Bench) -> Method:
    from steer_core.methods.load import load_method
    from steer_core.methods.prompts.single import SinglePrompt
    from steer_core.methods.wording import direct_instruction

    if spec is not None:
        return load_method(spec, model, here.spec, here.goals)
    setting = Setting(model.identity, here.goals, here.spec.decoding, here.spec.seed)

    def compose(request: Request, artifact: Artifact) -> tuple[Message, ...]:
        asked = direct_instruction(request, here.goals, here.spec.seed, negative=False, only=False)
        return (Message("user", str(method).replace("{request}", asked).replace("{text}", request.text)),)

    return SinglePrompt(setting, compose)


@dataclass(frozen=True)
class _Given:
    """Answers by request id."""

    answers: Mapping[str, str]
    traits: Traits = field(default_factory=lambda: Traits(calls_model=False))

    def fit(self, responses: tuple[FitResponse, ...]) -> Artifact:
        return Artifact()

    def step(self, request: Request, artifact: Artifact, history: tuple[Observation, ...]) -> tuple[Plan, ...] | Choose:
        return Choose(text=self.answers[request.request_id], finish_reason="imported")

    def clean(self, raw: str) -> tuple[str, bool]:
        return raw, True


class _Fixed:
    """A vector at one strength, whatever is asked."""

    def __init__(self, vector: Vector, strength: float) -> None:
        self.spec: PartSpec = VectorPart(estimator=vector.parts[0].estimator)
        self.label, self.fits_on = "vector", None
        self.steps = vector.interventions(strength)

    def combine(self, base: Method, before: Sequence[Any]) -> None:
        pass

    def fit(self, responses: tuple[FitResponse, ...]) -> Artifact:
        return Artifact()

    def apply(self, plan: Plan, request: Request, artifact: Artifact) -> Plan:
        return replace(plan, interventions=(*plan.interventions, *self.steps))

    def arms(self, artifact: Artifact) -> tuple[Any, ...]:
        return ()

    def at(self, arm: Any) -> _Fixed:
        return self

    def refuse(self, capabilities: Any) -> str | None:
        return None


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
        ConfigError: no such behavior, or one without test items.
    """
    from dataclasses import replace

    from steer_core.corpus.contrasts import build_contrasts
    from steer_core.evaluation.behaviors import planner, run, scores, side_effects, summary
    from steer_core.evaluation.judges import judge as judging
    from steer_core.evaluation.judges.load import load_judge
    from steer_core.methods.cleaning import clean_answer, is_refusal
    from steer_core.registry import load_registry, shipped_config

    spec = load_registry([shipped_config(), *config]).behavior(behavior) if isinstance(behavior, str) else behavior
    items = build_contrasts(spec).items
    layers = tuple(sorted({p.layer for p in vector.parts}))
    part = VectorPart(estimator=vector.parts[0].estimator, layers=layers, unit=vector.unit, strengths=tuple(strengths))
    sweep_spec = SweepSpec(random_directions=random_directions, shuffled=0, max_new_tokens=max_new_tokens)
    own = [replace(p, concept=spec.name, lineage={**p.lineage, "seed": 0}) for p in vector.parts]
    known = planner.with_random(own, spec.name, sweep_spec, layers=layers)
    arms = planner.plan_arms(spec, part, sweep_spec, known, items, layers=layers)
    common: dict[str, Any] = {
        "model_identity": model.loaded.spec.identity,
        "decoding": sweep_decoding(sweep_spec),
        "batch_size": 64,
    }
    with tempfile.TemporaryDirectory() as folder:
        swept = run.run_arms(
            arms, items, known, model.backend, Journal(folder, Responses), seed=0, clean=clean_answer, **common
        )
    found = [
        run.score_items(arms, items, known, model.backend, **common),
        scores.answer_scores(swept, arms, items, refused=is_refusal),
        scores.perplexity_scores(swept, arms, items, model.backend, **common),
    ]
    if spec.judge.kind == "ground_truth":
        judge = load_judge(spec)
        verdicts = judging.judge_cases(judge, judging.cases_of(swept.answers, items))
        found.append(side_effects.judged_scores(swept.answers, arms, items, verdicts, judge_id=judge.judge_id))
    table, findings = summary.summarise_arms(arms, pl.concat(found), draws=DRAWS, seed=0)
    answers = (
        swept.answers.join(arms.filter(pl.col("role").is_in(["off", "vector"])), on="arm_id")
        .join(items.select("item_id", prompt="messages"), on="item_id")
        .select("strength", "prompt", "text")
    )
    return Swept(spec.name, table, findings, answers)


def sweep_decoding(spec: SweepSpec) -> Any:
    """How a sweep's open answers are drawn."""
    from schemas.specs import Decoding

    return Decoding(max_new_tokens=spec.max_new_tokens, temperature=spec.temperature)
