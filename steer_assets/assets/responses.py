"""What a cell asks and what comes back: plan, fit responses, artifact, responses."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dagster as dg
import polars as pl

from schemas import Artifacts, GoalValues, Outcomes, ProbeArms, Responses, RunPlans
from schemas.evaluation import HEADLINE
from schemas.parts import PromptPart
from schemas.specs import MethodSpec
from steer_assets.assets.vectors import gate_of_cell, steering_backend, vector_part, vectors_of_goals
from steer_assets.compute import backend_for, device_lease, device_of
from steer_assets.measuring import measure_texts, model_digest, ruler_of, seconds_per_token
from steer_assets.receipts import RECEIPTS
from steer_assets.settings import registry
from steer_assets.tables import Work, table
from steer_core.generation.backend import Backend
from steer_core.generation.encoding import encode_plan
from steer_core.goals.space import GoalSpace
from steer_core.methods import driver, fitting, planning
from steer_core.methods.load import code_digest, load_method
from steer_core.methods.part import Arm, arms_of, arms_table
from steer_core.methods.parts.vector import with_doses
from steer_core.methods.protocol import Artifact, Method
from steer_core.models.info import describe_model
from steer_core.models.loading import load_tokenizer
from steer_core.steering.plan import Plan


def _method(work: Work, spec: MethodSpec | None = None) -> Method:
    cell = work.here
    return load_method(spec or cell.method, cell.model, work.bench, registry().goals_of(work.bench))


def _pool_method(work: Work) -> MethodSpec | None:
    """The method whose answers to the training pool this cell is fitted on."""
    strategy = _method(work).traits.fits_on
    return None if strategy is None else MethodSpec(name=strategy, parts=(PromptPart(strategy=strategy),))


def _asked(work: Work, method: MethodSpec | None) -> list[Any]:
    """What decides a cell's answers, besides its tables."""
    words = {n: [g.noun, g.more, g.less] for n, g in registry().goals_of(work.bench).items()}
    decoding = work.bench.decoding.model_dump(mode="json")
    what = method and [method.spec_hash, _method(work, method).traits.digest]
    model = model_digest(work.here.model) if _method(work, method).traits.calls_model else None
    return [what, model, decoding, work.bench.seed, words, method and code_digest(method)]


def _token_counter(work: Work) -> Callable[[Plan], int]:
    """Tokens of a plan's prompt, from the tokenizer alone."""
    model = work.here.model
    tokenizer = load_tokenizer(model)
    chat = describe_model(model).chat
    uses_template = bool(tokenizer.chat_template) if chat is None else chat
    return lambda plan: len(encode_plan(plan, tokenizer, uses_template, model.template_options))


def _backend(work: Work, method: Method, tables: Mapping[str, pl.DataFrame]) -> Backend | None:
    if not method.traits.calls_model:
        return None
    if "vectors" in tables:
        return steering_backend(work, tables["vectors"], tables["vector_tensors"])
    return backend_for(work.here.model)


def _run(
    work: Work,
    spec: MethodSpec,
    tables: Mapping[str, pl.DataFrame],
    artifact: Artifact,
    probes: list[str],
    arms: Sequence[Arm] = (),
) -> driver.Run:
    method = _method(work, spec)
    space = GoalSpace.from_table(tables["goal_space"])
    requests = tables["requests"].filter(pl.col("probe").is_in(probes))
    calls_model = method.traits.calls_model
    with device_lease(device_of(work.here.model)) if calls_model else contextlib.nullcontext():
        return driver.run_method(
            method,
            requests,
            tables["request_goals"],
            space.goals,
            artifact=artifact,
            backend=_backend(work, method, tables),
            journal=work.journal,
            ruler=ruler_of(work.bench, space) if method.traits.measures else None,
            seed=work.bench.seed,
            batch_size=work.bench.batch_size,
            arms=arms,
            progress=work.progress("responses"),
        )


@table(
    Responses,
    Outcomes,
    GoalValues,
    names=("fit_responses", "fit_outcomes", "fit_goal_values"),
    version=driver.VERSION,
    spec=lambda work: [_asked(work, _pool_method(work)), work.bench.train_probe],
    applies=lambda work: _pool_method(work) is not None,
    grid=True,
    gpu=True,
    kinds=("huggingface",),
)
def fit_responses(
    work: Work, requests: pl.DataFrame, request_goals: pl.DataFrame, goal_space: pl.DataFrame
) -> tuple[pl.DataFrame, ...]:
    """Answers to the training pool that the method is fitted on, measured; empty for methods that fit nothing."""
    pool = _pool_method(work)
    if pool is None:
        return Responses.empty(), Outcomes.empty(), GoalValues.empty()
    tables = {
        "requests": requests,
        "request_goals": request_goals,
        "goal_space": goal_space,
    }
    run = _run(work, pool, tables, Artifact(), [str(work.bench.train_probe)])
    return run.responses, run.outcomes, measure_texts(work.bench, run.outcomes.unique("text_id", maintain_order=True))


@table(
    Artifacts,
    version=fitting.VERSION,
    spec=lambda work: [work.here.method.spec_hash, code_digest(work.here.method)],
    applies=lambda work: _pool_method(work) is not None or vector_part(work) is not None,
    grid=True,
    gpu=True,
)
def artifacts(
    work: Work,
    requests: pl.DataFrame,
    request_goals: pl.DataFrame,
    goal_space: pl.DataFrame,
    fit_responses: pl.DataFrame,
    fit_outcomes: pl.DataFrame,
    fit_goal_values: pl.DataFrame,
    vectors: pl.DataFrame,
    vector_tensors: pl.DataFrame,
    dose_response: pl.DataFrame,
) -> pl.DataFrame:
    """What the method learnt from the training pool: edit ideas, examples, doses; empty where there is nothing to."""
    space = GoalSpace.from_table(goal_space)
    fitted = fitting.fit_method(
        _method(work), requests, request_goals, fit_responses, fit_outcomes, fit_goal_values, space
    )
    part = vector_part(work)
    if part is not None:
        fitted = with_doses(
            fitted,
            part,
            vectors_of_goals(work, vectors, vector_tensors),
            dose_response,
            gate_of_cell(vectors, vector_tensors),
        )
    return fitted.to_table()


def _preview(work: Work, frames: Mapping[str, pl.DataFrame]) -> dict[str, Any]:
    rows = frames["run_plans"].row(0, named=True)
    shown = json.loads(rows["preview"])
    prompts = "\n\n---\n\n".join(f"~~~text\n{p['prompt']}\n~~~" for p in shown) or "No model is called."
    said: dict[str, Any] = {
        "prompts": dg.MarkdownMetadataValue(prompts),
        "calls at most": int(frames["run_plans"]["max_calls"].sum()),
        "smallest effect": rows["smallest_effect"],
    }
    if rows["prompt_tokens"] is not None:
        said["prompt tokens"] = int(frames["run_plans"]["prompt_tokens"].sum())
    if rows["seconds"] is not None:
        said["seconds at most"] = float(frames["run_plans"]["seconds"].sum())
    return said


@table(
    RunPlans,
    version=planning.VERSION,
    spec=lambda work: _asked(work, work.here.method),
    grid=True,
    gpu=True,
    metadata=_preview,
)
def run_plans(
    work: Work, requests: pl.DataFrame, request_goals: pl.DataFrame, goal_space: pl.DataFrame, artifacts: pl.DataFrame
) -> pl.DataFrame:
    """Before anything runs: the first prompts to read, calls, tokens, time, and the smallest effect that shows."""
    method = _method(work)
    return planning.plan_run(
        method,
        requests.filter(pl.col("probe").is_in(work.bench.test_probes)),
        request_goals,
        GoalSpace.from_table(goal_space).goals,
        artifact=Artifact.from_table(artifacts),
        count_tokens=_token_counter(work) if method.traits.calls_model else None,
        seconds_per_token=seconds_per_token(work.journal),
        max_new_tokens=work.bench.decoding.max_new_tokens,
    )


def _said(work: Work, frames: Mapping[str, pl.DataFrame]) -> dict[str, Any]:
    outcomes = frames["outcomes"].filter(pl.col("arm_id") == HEADLINE)
    counts = outcomes["failure"].drop_nulls().value_counts().rows()
    return {
        "requests": outcomes.height,
        "copied": int(outcomes["copied"].sum()),
        **{f"failed: {why}": n for why, n in counts},
        "tokens written": int(frames["responses"]["completion_tokens"].sum()),
    }


@table(
    Responses,
    Outcomes,
    ProbeArms,
    version=driver.VERSION,
    spec=lambda work: _asked(work, work.here.method),
    grid=True,
    gpu=True,
    kinds=("huggingface",),
    metadata=_said,
    science=(RECEIPTS,),
)
def responses(
    work: Work,
    requests: pl.DataFrame,
    request_goals: pl.DataFrame,
    goal_space: pl.DataFrame,
    artifacts: pl.DataFrame,
    vectors: pl.DataFrame,
    vector_tensors: pl.DataFrame,
) -> tuple[pl.DataFrame, ...]:
    """Every answer of the cell, all attempts included, and what was chosen for each request."""
    tables = {
        "requests": requests,
        "request_goals": request_goals,
        "goal_space": goal_space,
        "vectors": vectors,
        "vector_tensors": vector_tensors,
    }
    artifact = Artifact.from_table(artifacts)
    arms = arms_of(_method(work), artifact)
    run = _run(work, work.here.method, tables, artifact, work.bench.test_probes, arms)
    return run.responses, run.outcomes, arms_table(arms)
