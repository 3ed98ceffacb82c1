"""Measure a method on a probe, and score answers made elsewhere."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import polars as pl

from schemas import Responses
from schemas.parts import PartSpec
from schemas.specs import MethodSpec, ModelSpec
from schemas.vector_part import VectorPart
from steer_core.front.arguments import folders, instance, text, whole
from steer_core.front.bench import Bench, open_bench
from steer_core.front.measured import Measured
from steer_core.front.model import Model
from steer_core.front.vector import Vector
from steer_core.generation.run import Run
from steer_core.methods.part import Composed, PlainPart
from steer_core.methods.protocol import Artifact, Choose, FitResponse, Method, Observation, Request, Setting, Traits
from steer_core.steering.plan import Message, Plan
from steer_core.tables.errors import ConfigError, SteerworksError
from steer_core.tables.journal import Journal

if TYPE_CHECKING:
    from steer_core.methods.driver import Answered

#: Shuffles behind the rank p of listening, and draws of medians' intervals.
SHUFFLES, DRAWS = 200, 1000


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
        ConfigError: no such bench or method, one that is fitted first (use the pipeline for those), or one that asks no
            model, with a vector; a size or seed that makes no sense.
        SteerworksError: a strength without a vector.
    """
    from steer_core.front.model import load
    from steer_core.methods.driver import run_method

    if model is not None:
        instance("model", model, Model, "what `steer_core.load` gives")
    if vector is not None:
        instance("vector", vector, Vector, "one that `fit` or `read_vector` gave")
    if (vector is None) != (strength is None):
        raise SteerworksError("a vector comes with a strength: pass both, or neither")
    whole("seed", seed, 0)
    here = _bench(bench, texts, requests, config)
    spec, name = _method(method, here)
    asking = model or load("embedded")
    built = _built(spec, method, asking.loaded.spec, here)
    if built.traits.fits_on is not None or built.traits.pool:
        raise ConfigError(
            f"method {name!r} is fitted on a training pool first: run it as a cell (`python -m steer_assets`)"
        )
    if vector is not None and not built.traits.calls_model:
        raise ConfigError(f"method {name!r} asks no model, so there is nothing that a vector could steer")
    if vector is not None and strength is not None:
        asking.backend.add_vectors(vector.parts)
        built = Composed(built, (_Fixed(vector, strength),), built.traits)
        name = f"{name}+{vector.name}@{strength:g}"
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Journal(folder, Responses), asking.backend, here.ruler, seed, here.spec.batch_size)
        made = run_method(built, here.probe.requests, here.probe.request_goals, here.spec.goals, run)
    return _scored(name, here, made.responses, made.outcomes, asking.loaded.spec.name)


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
    given = _given(answers)
    here = _bench(bench, texts, requests, config)
    wanted = here.probe.requests["request_id"].to_list()
    strangers, missing = sorted(set(given) - set(wanted)), [i for i in wanted if i not in given]
    if strangers or missing:
        raise SteerworksError(
            f"{len(missing)} of {len(wanted)} requests have no answer (first: {', '.join(missing[:2]) or 'none'}) and "
            f"{len(strangers)} answers belong to no request (first: {', '.join(strangers[:2]) or 'none'}): ask for the "
            "requests with `measure('copy', ...).tables['requests']`, with the same bench, texts and requests"
        )
    run = _taken(given, here)
    return _scored(name, here, run.responses, run.outcomes, "")


def _bench(bench: str, texts: int | None, requests: int | None, config: Sequence[str]) -> Bench:
    for name, size in (("texts", texts), ("requests", requests)):
        if size is not None:
            whole(name, size, 1)
    return open_bench(text("bench", bench), texts, requests, folders(config))


def _given(answers: Mapping[str, str] | Iterable[tuple[str, str]]) -> dict[str, str]:
    """Answers by request; `SteerworksError` where they are something else, or one stands twice."""
    if isinstance(answers, str) or not isinstance(answers, Mapping | Iterable):
        raise SteerworksError(f"answers are a mapping of request ids to texts; got {type(answers).__name__}")
    found: dict[str, str] = {}
    for pair in answers.items() if isinstance(answers, Mapping) else answers:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise SteerworksError(f"answers are pairs of a request id and a text; one is {str(pair)[:60]!r}")
        request, said = pair
        if text("a request id among the answers", request) in found:
            raise SteerworksError(f"request {request!r} stands twice among the answers: give one for each")
        found[request] = text(f"the answer to request {request!r}", said)
    return found


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


def _taken(answers: Mapping[str, str], here: Bench) -> Answered:
    """Answers as they are, as if a method had given them."""
    from steer_core.methods.driver import run_method

    with tempfile.TemporaryDirectory() as folder:
        run = Run(Journal(folder, Responses))
        return run_method(_Given(answers), here.probe.requests, here.probe.request_goals, here.spec.goals, run)


def _copied(here: Bench) -> pl.DataFrame:
    """Scores of returning every source: what doing nothing costs."""
    sources = dict(here.probe.requests.select("request_id", "text").iter_rows())
    from steer_core.evaluation import evaluate

    run = _taken(sources, here)
    asked, goals = here.probe.requests, here.probe.request_goals
    return evaluate(asked, goals, run.outcomes, here.values_of(run.outcomes), here.space)[0]


def _method(method: str | MethodSpec, here: Bench) -> tuple[MethodSpec | None, str]:
    if isinstance(method, MethodSpec):
        return method, method.name
    if not isinstance(method, str):
        raise ConfigError(f"a method is a name or a prompt with {{text}}; got {type(method).__name__}")
    if "{text}" in method:
        return None, "own-prompt"
    if " " in method:
        raise ConfigError(f"{method[:60]!r} is no method: a prompt of your own has {{text}} where the source goes")
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


class _Fixed(PlainPart):
    """A vector at one strength, whatever is asked."""

    def __init__(self, vector: Vector, strength: float) -> None:
        self.spec: PartSpec = VectorPart(estimator=vector.parts[0].estimator)
        self.label = "vector"
        self.steps = vector.interventions(strength)

    def apply(self, plan: Plan, request: Request, artifact: Artifact) -> Plan:
        return replace(plan, interventions=(*plan.interventions, *self.steps))
