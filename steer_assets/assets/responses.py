"""What a cell asks and what comes back: plan and responses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import dagster as dg
import polars as pl

from schemas import Attempts, Outcomes, ProbeArms, Responses, RunPlans
from schemas.evaluation import HEADLINE
from steer_assets.assets.calling import answer, follows_from, method_of
from steer_assets.assets.fits import given_tables
from steer_assets.measuring import seconds_per_token
from steer_assets.receipts import RECEIPTS
from steer_assets.tables import Work, table
from steer_core.generation.engines import attempts_of, cost_at_most, keeps_attempts, token_counter
from steer_core.goals.space import GoalSpace
from steer_core.methods import driver, preview
from steer_core.methods.part import arms_of, arms_table
from steer_core.methods.protocol import Artifact


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
    plans = frames["run_plans"]
    prompt, new = int(plans["prompt_tokens"].fill_null(0).sum()), int(plans["max_new_tokens"].sum())
    if new and (cost := cost_at_most(work.here.model, prompt, new, said["calls at most"])) is not None:
        said["cost at most"] = f"{cost.amount:.4g} {cost.currency} at the prices of {cost.as_of}"
    if rows["seconds"] is not None:
        said["seconds at most"] = float(frames["run_plans"]["seconds"].sum())
    return said


@table(
    RunPlans,
    version=preview.VERSION,
    spec=lambda work: follows_from(work, work.here.method),
    grid=True,
    gpu=True,
    metadata=_preview,
)
def run_plans(
    work: Work, requests: pl.DataFrame, request_goals: pl.DataFrame, goal_space: pl.DataFrame, artifacts: pl.DataFrame
) -> pl.DataFrame:
    """Before anything runs: the first prompts to read, calls, tokens, time, and the smallest effect that shows."""
    method = method_of(work)
    return preview.plan_run(
        method,
        requests.filter(pl.col("probe").is_in(work.bench.test_probes)),
        request_goals,
        GoalSpace.from_table(goal_space).goals,
        artifact=Artifact.from_table(artifacts),
        count_tokens=token_counter(work.here.model) if method.traits.calls_model else None,
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
    spec=lambda work: follows_from(work, work.here.method),
    grid=True,
    gpu=True,
    kinds=("huggingface",),
    metadata=_said,
    science=(RECEIPTS,),
    also=given_tables,
)
def responses(
    work: Work,
    requests: pl.DataFrame,
    request_goals: pl.DataFrame,
    goal_space: pl.DataFrame,
    artifacts: pl.DataFrame,
    **fitted: pl.DataFrame,
) -> tuple[pl.DataFrame, ...]:
    """Every answer of the cell, all attempts included, and what was chosen for each request."""
    tables = {"requests": requests, "request_goals": request_goals, "goal_space": goal_space, **fitted}
    artifact = Artifact.from_table(artifacts)
    arms = arms_of(method_of(work), artifact)
    run = answer(work, work.here.method, tables, artifact, work.bench.test_probes, arms)
    return run.responses, run.outcomes, arms_table(arms)


def _sent(work: Work, frames: Mapping[str, pl.DataFrame]) -> dict[str, Any]:
    rows = frames["attempts"]
    kinds = rows["outcome"].value_counts(sort=True).rows()
    tokens = {kind: int(rows[f"{kind}_tokens"].sum()) for kind in ("prompt", "cached", "completion", "reasoning")}
    return {
        **{f"attempts: {outcome}": n for outcome, n in kinds},
        **{f"{kind} tokens": n for kind, n in tokens.items()},
        "cost": float(rows["cost"].fill_null(0.0).sum()),
    }


@table(
    Attempts,
    version="1",
    applies=lambda work: keeps_attempts(work.here.model),
    grid=True,
    metadata=_sent,
)
def attempts(work: Work, responses: pl.DataFrame) -> pl.DataFrame:
    """Every request that was sent for the cell's responses, those that failed included, with tokens and money."""
    return attempts_of(work.here.model, responses["response_id"])
