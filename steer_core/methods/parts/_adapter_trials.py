"""Trials of an adapter's states on texts that it was not trained on, and which of them is worn."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import polars as pl

from schemas.adapters import CheckpointTrials
from schemas.evaluation import HEADLINE
from steer_core.evaluation.scoring import evaluate
from steer_core.goals.space import GoalSpace
from steer_core.methods.driver import run_method
from steer_core.methods.fitting import FitContext, Tables, gather, give
from steer_core.methods.part import Arm, Composed, Part
from steer_core.methods.parts._adapter_pool import pool_of, spec_of
from steer_core.methods.protocol import Artifact, Item

#: The model without the adapter, among the trials.
BARE = -1


def try_states(part: Part, cell: FitContext, tables: Tables) -> tuple[pl.DataFrame, ...]:
    """Each state, and the model without it, on texts of the training pool that it was not trained on."""
    method = cast(Composed, cell.method)
    _, requests = pool_of(cell, tables, spec_of(part).trial_texts)
    asked = tables["request_goals"].join(requests, on="request_id", how="semi")
    space = GoalSpace.from_table(tables["goal_space"])
    under = method.before(part.label)
    worn = replace(under, parts=(*under.parts, part))
    states = tables["adapters"].filter(pl.col("part") == part.label).sort("step")
    items = [
        Item(
            "state", {"adapter": r["adapter"], "step": r["step"], "label": r["label"], "picked": False}, part=part.label
        )
        for r in states.iter_rows(named=True)
    ]
    artifact = Artifact((*gather(under, tables).items, *items))
    arms = [Arm(part.label, str(i.body["label"]), {"step": i.body["step"]}) for i in items]
    with cell.asking("trials of states") as run:
        give(under, run.asking, tables)
        part.give(run.asking, tables)
        variants = {BARE: under, **{int(arm.settings["step"]): worn.at(arm) for arm in arms}}
        found = []
        for step, variant in variants.items():
            answered = run_method(variant, requests, asked, space.goals, run, artifact=artifact)
            scored, _ = evaluate(
                requests, asked, answered.outcomes, cell.measure(answered.outcomes), tables["goal_space"]
            )
            found.append(
                scored.filter(arm_id=HEADLINE).select(
                    part=pl.lit(part.label),
                    step=pl.lit(step, pl.Int64),
                    request_id="request_id",
                    text_id="text_id",
                    error="error_worst",
                    failure="failure",
                )
            )
    table = pl.concat([CheckpointTrials.empty(), *found])
    _tell(cell, part.label, table)
    return (table,)


def best_step(trials: pl.DataFrame) -> int | None:
    """The state with the least mean error, failures at their worst; of equals the first. None without trials."""
    means = trials.filter(pl.col("step") != BARE).group_by("step").agg(pl.col("error").mean()).sort("error", "step")
    return int(means["step"][0]) if means.height else None


def _tell(cell: FitContext, label: str, trials: pl.DataFrame) -> None:
    picked = best_step(trials)
    mean = dict(trials.group_by("step").agg(pl.col("error").mean()).iter_rows())
    if picked is not None and BARE in mean and mean[picked] >= mean[BARE]:
        cell.warn(
            f"no state of {label!r} has less error on the training pool than the model without it "
            f"({mean[picked]:.3f}, {mean[BARE]:.3f}): nothing was learnt that helps"
        )


def trial_calls(part: Part, cell: FitContext) -> int:
    """Answers that trials ask for at most; states of adapters from elsewhere are not counted before they are read."""
    spec = spec_of(part)
    probe = cell.bench.probe(str(cell.bench.train_probe))
    states = 1 if spec.recipe is None else spec.recipe.states()
    return (states + 1) * spec.trial_texts * probe.n_goals_per_text
