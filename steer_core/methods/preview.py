"""Look before you run: a probe's prompts, and what running them will cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl

from schemas.digest import canonical_json
from steer_core.methods.driver import requests_from
from steer_core.methods.protocol import Artifact, Choose, Method
from steer_core.statistics.power import smallest_effect
from steer_core.steering.plan import Plan

#: Bumped when the estimate changes.
VERSION = "1"
#: Prompts kept for reading.
SHOWN = 3


def preview_prompts(
    method: Method,
    requests: pl.DataFrame,
    request_goals: pl.DataFrame,
    goals: Sequence[str],
    artifact: Artifact | None = None,
) -> pl.DataFrame:
    """The first round's plans of every request, before any is run.

    Args:
        method: the method.
        requests: rows of `requests`.
        request_goals: rows of `request_goals`.
        goals: axes of the goal space, in order.
        artifact: what the method was fitted to; without it, fitted parts of the prompts are left out.

    Returns:
        Columns request_id, plan_id, plan (JSON), prompt (the turns as text); a row for each plan, none for requests
        that are answered without a model.
    """
    rows = []
    for request in requests_from(requests, request_goals, goals):
        step = method.step(request, artifact or Artifact(), ())
        if not isinstance(step, Choose):
            rows += [(request.request_id, p.id, p.to_json(), as_text(p)) for p in step]
    return pl.DataFrame(rows, schema=["request_id", "plan_id", "plan", "prompt"], orient="row").cast(pl.String)


def as_text(plan: Plan) -> str:
    """A plan's prompt as a person reads it."""
    if plan.messages is not None:
        return "\n\n".join(f"[{m.role}]\n{m.content}" for m in plan.messages)
    return plan.text if plan.text is not None else f"{len(plan.tokens or ())} token ids"


def plan_run(
    method: Method,
    requests: pl.DataFrame,
    request_goals: pl.DataFrame,
    goals: Sequence[str],
    *,
    artifact: Artifact,
    count_tokens: Callable[[Plan], int] | None,
    seconds_per_token: float | None,
    max_new_tokens: int,
) -> pl.DataFrame:
    """Rows of `run_plans`, one a probe.

    Equal plans are counted once, as they are generated once. The time is the tokens that may be written at most times
    the seconds a written token took so far, so it errs on the long side.

    Args:
        method: the method.
        requests: rows of `requests`.
        request_goals: rows of `request_goals`.
        goals: axes of the goal space, in order.
        artifact: what the method was fitted to.
        count_tokens: tokens of a plan's prompt; None where no tokenizer is at hand.
        seconds_per_token: as measured on this model; None where nothing was generated yet.
        max_new_tokens: of the bench's decoding.
    """
    rows = []
    for (probe,), of_probe in requests.group_by("probe", maintain_order=True):
        prompts = preview_prompts(
            method, of_probe, request_goals.join(of_probe, on="request_id", how="semi"), goals, artifact
        )
        # the samples of one plan are calls of their own; equal plans of several requests are not
        samples = (
            prompts.group_by("request_id", "plan_id", maintain_order=True)
            .len()
            .group_by("plan_id", maintain_order=True)
        )
        distinct = samples.agg(pl.col("len").max()).join(prompts.unique("plan_id"), on="plan_id")
        later = max(0, method.traits.max_calls - (prompts.height // max(of_probe.height, 1)))
        calls = int(distinct["len"].sum()) + later * of_probe.height
        tokens = None
        if count_tokens is not None:
            plans = distinct.select("plan", "len").iter_rows()
            tokens = sum(count_tokens(Plan.from_json(plan)) * n for plan, n in plans)
        n_texts = of_probe["text_id"].n_unique()
        shown = prompts.head(SHOWN).select("request_id", "prompt").to_dicts()
        rows.append(
            {
                "probe": str(probe),
                "n_requests": of_probe.height,
                "n_texts": n_texts,
                "max_calls": calls,
                "prompt_tokens": tokens,
                "max_new_tokens": calls * max_new_tokens,
                "seconds": None if seconds_per_token is None else calls * max_new_tokens * seconds_per_token,
                "smallest_effect": smallest_effect(n_texts, max(1, of_probe.height // max(n_texts, 1))),
                "preview": canonical_json(shown),
            }
        )
    from schemas.probes import RunPlans

    return pl.DataFrame(rows, schema=RunPlans.empty().schema, orient="row")
