"""Probes: requests that cover the goal space, how they were drawn, and what running them will cost."""

from __future__ import annotations

import polars as pl

from schemas.contract import Contract, column


class ProbeWeights(Contract, table="probe_weights", key=("probe", "text_id")):
    """Sampling weight of each candidate text for a probe (density ratio uniform : corpus)."""

    probe: str = column(description="Probe name")
    text_id: str = column(description="Content hash of the text")
    weight: float = column(ge=0.0, description="Sampling weight; sums to 1 over a probe")
    selected: bool = column(description="True where the text was drawn into the probe")


class ProbeDiagnostics(Contract, table="probe_diagnostics", key=("probe",), version=2):
    """How uniform each probe is in goal space, before and after weighting, and what it can find."""

    @classmethod
    def migrate(cls, rows: pl.DataFrame, version: int) -> pl.DataFrame | None:
        """Version 1 did not say what listener it can find: that needs the requests."""
        return rows.with_columns(smallest_listener=pl.lit(None, pl.Float64)) if version == 1 else None

    probe: str = column(unique=True, description="Probe name")
    goal_space_id: str = column(description="Goal space that the requests live in")
    weighting: str = column(isin=["none", "linear", "nonlinear"], description="Estimator of the density ratio")
    n_candidates: int = column(ge=1, description="Texts that could have been drawn")
    n_texts: int = column(ge=1, description="Texts drawn")
    n_requests: int = column(ge=1, description="Requests")
    auc_before: float = column(ge=0.0, le=1.0, description="AUC corpus vs uniform, unweighted (0.5 = uniform)")
    auc_after: float = column(ge=0.0, le=1.0, description="AUC corpus vs uniform with weights, held-out folds")
    effective_n: float = column(ge=0.0, description="Kish effective number of candidates, 1 / sum w^2")
    smallest_effect: float = column(
        ge=0.0, description="Smallest paired difference of steering error that these texts detect (power .8, level .05)"
    )
    smallest_listener: float = column(
        nullable=True,
        ge=0.0,
        description="Smallest share of the move asked at which a method is found to listen (power .8, one-sided .025)",
    )


class Requests(Contract, table="requests", key=("request_id",)):
    """A source text and one target in goal space; the targets themselves are in `request_goals`."""

    request_id: str = column(unique=True, description="Hash of goal space, source text and targets")
    probe: str = column(description="Probe that the request belongs to")
    split: str = column(isin=["train", "test"], description="Side of the split by text")
    text_id: str = column(description="Source text; the cluster of every confidence interval")
    text: str = column(description="Source text")
    source: str = column(description="Corpus source of the text")


class RequestGoals(Contract, table="request_goals", key=("request_id", "goal")):
    """Start and target of each goal of each request; an inactive goal has no target."""

    request_id: str = column(description="Request")
    goal: str = column(description="Goal name")
    z0: float = column(ge=0.0, le=1.0, description="Source text in the goal space, clipped to [0, 1]")
    z_star: float = column(nullable=True, ge=0.0, le=1.0, description="Target; null where the goal is inactive")
    z0_raw: float = column(description="Source text in the scorer's own unit, unclipped")


class RunPlans(Contract, table="run_plans", key=("probe",)):
    """What a cell will ask of its model, before anything runs: calls, tokens, time, and two prompts to read."""

    probe: str = column(unique=True, description="Probe name")
    n_requests: int = column(ge=0, description="Requests")
    n_texts: int = column(ge=0, description="Source texts")
    max_calls: int = column(ge=0, description="Most calls the method can make")
    prompt_tokens: int = column(nullable=True, ge=0, description="Tokens of the first round's prompts; null if unknown")
    max_new_tokens: int = column(ge=0, description="Most tokens that can be generated")
    seconds: float = column(nullable=True, ge=0.0, description="Estimated time; null where the speed is unknown")
    smallest_effect: float = column(ge=0.0, description="Smallest paired difference of error detectable (power .8)")
    preview: str = column(description="The first prompts, as JSON: request_id, messages")
