"""Steerability: one row a request, its movements goal by goal, and the summaries with intervals."""

from __future__ import annotations

import pandera.polars as pa

from schemas.contract import Contract

READINGS = ["complete", "worst"]


class GoalMovements(Contract, table="goal_movements", key=("request_id", "goal")):
    """Where each request started, was asked to go, and went, goal by goal."""

    request_id: str = pa.Field(description="Request")
    probe: str = pa.Field(description="Probe")
    goal: str = pa.Field(description="Goal name")
    z0: float = pa.Field(ge=0.0, le=1.0, description="Start, clipped")
    z_star: float = pa.Field(nullable=True, ge=0.0, le=1.0, description="Target; null where inactive")
    z_hat: float = pa.Field(nullable=True, ge=0.0, le=1.0, description="Reached, clipped; null where undefined")
    overshoot: float = pa.Field(
        nullable=True, description="Signed distance of the unclipped value beyond [0, 1]; 0 inside"
    )
    value: float = pa.Field(nullable=True, description="Reached, in the scorer's own unit")


class Steerability(Contract, table="steerability", key=("request_id",)):
    """Scores of one request. Null scores: the outcome has no defined position in goal space."""

    request_id: str = pa.Field(unique=True, description="Request")
    probe: str = pa.Field(description="Probe")
    goal_space_id: str = pa.Field(description="Goal space; results never compare across goal spaces")
    text_id: str = pa.Field(description="Source text: the cluster of every interval")
    failure: str = pa.Field(
        nullable=True,
        isin=["empty", "truncated", "overlong", "unparsable", "refused", "undefined"],
        description="Why the row is not a complete case",
    )
    copied: bool = pa.Field(description="True where the source came back unchanged")
    requested: float = pa.Field(ge=0.0, description="|z* - z0|")
    moved: float = pa.Field(nullable=True, ge=0.0, description="|zh - z0|")
    error: float = pa.Field(nullable=True, ge=0.0, description="|z* - zh|")
    miscalibration: float = pa.Field(nullable=True, ge=0.0, description="Error along the request, in units of |r|")
    orthogonality: float = pa.Field(
        nullable=True, ge=0.0, le=1.0, description="Share of the move made that was off-axis"
    )
    sensitivity: float = pa.Field(nullable=True, ge=0.0, description="|m| / |r| (2024); null where nothing was asked")
    directionality: float = pa.Field(
        nullable=True, ge=-1.0, le=1.0, description="cos(m, r) (2024); null if r or m is 0"
    )
    score: float = pa.Field(nullable=True, description="(m.r) / |r|^2 (2024); null where nothing was asked")
    error_binned: float = pa.Field(nullable=True, ge=0.0, description="Error on the published lattice of sevenths")
    miscalibration_binned: float = pa.Field(nullable=True, ge=0.0, description="Miscalibration on the lattice")
    orthogonality_binned: float = pa.Field(nullable=True, ge=0.0, le=1.0, description="Orthogonality on the lattice")
    error_worst: float = pa.Field(ge=0.0, description="`error`, or the distance to the farthest corner on a failure")
    miscalibration_worst: float = pa.Field(ge=0.0, description="`miscalibration`, or its largest value on a failure")
    orthogonality_worst: float = pa.Field(ge=0.0, le=1.0, description="`orthogonality`, or 1 on a failure")
    error_permuted: float = pa.Field(
        nullable=True, ge=0.0, description="Mean |z*' - zh| with targets shuffled across requests: the chance level"
    )
    meaning_content: float = pa.Field(
        nullable=True, ge=0.0, le=1.0, description="F1 of content-word stems with the source"
    )
    meaning_chrf: float = pa.Field(
        nullable=True, ge=0.0, le=1.0, description="chrF (character 6-gram F2) with the source"
    )
    meaning_embedding: float = pa.Field(
        nullable=True,
        ge=-1.0,
        le=1.0,
        description="Cosine of sentence embeddings with the source; null without a `meaning_model`",
    )


class SteerabilitySummary(
    Contract, table="steerability_summary", key=("probe", "measure", "goal", "reading", "statistic")
):
    """One figure a row: a measure of a probe under a reading, with its clustered bootstrap interval."""

    probe: str = pa.Field(description="Probe")
    goal_space_id: str = pa.Field(description="Goal space")
    measure: str = pa.Field(description="Column of `steerability`, or a rate: `truncated`, `copied`, `failed`")
    goal: str = pa.Field(description="Goal, or `overall`")
    reading: str = pa.Field(isin=READINGS, description="`complete`: failures left out; `worst`: at their worst value")
    statistic: str = pa.Field(isin=["mean", "median", "iqr"], description="Which statistic")
    value: float = pa.Field(nullable=True, description="The figure; null where no row defines it")
    low: float = pa.Field(nullable=True, description="Lower end of the 95 % interval, clustered by source text")
    high: float = pa.Field(nullable=True, description="Upper end")
    n: int = pa.Field(ge=0, description="Requests behind the figure")
    n_clusters: int = pa.Field(ge=0, description="Source texts behind the figure: the real sample size")


class Comparisons(Contract, table="comparisons", key=("probe", "control", "measure", "reading")):
    """Paired contrast of a cell with a control on the same requests."""

    probe: str = pa.Field(description="Probe")
    goal_space_id: str = pa.Field(description="Goal space")
    control: str = pa.Field(description="`copy`, `rewrite`, or `permuted` (the cell's own targets shuffled)")
    measure: str = pa.Field(description="Column of `steerability`")
    reading: str = pa.Field(isin=READINGS, description="Complete cases of both sides, or worst case")
    value: float = pa.Field(nullable=True, description="Mean of the measure in this cell, over the paired requests")
    control_value: float = pa.Field(nullable=True, description="Mean of the measure in the control")
    difference: float = pa.Field(nullable=True, description="value - control_value; below 0 is better for errors")
    low: float = pa.Field(nullable=True, description="Lower end of the 95 % interval, clustered by source text")
    high: float = pa.Field(nullable=True, description="Upper end")
    relative: float = pa.Field(nullable=True, description="difference / control_value")
    share_better: float = pa.Field(nullable=True, ge=0.0, le=1.0, description="Share of requests with a smaller value")
    n: int = pa.Field(ge=0, description="Paired requests")
    n_clusters: int = pa.Field(ge=0, description="Source texts")


class SideEffects(Contract, table="side_effects", key=("probe", "requested_goal", "observed_goal")):
    """What moves when a goal is asked for: the side-effect matrix, one entry a row."""

    probe: str = pa.Field(description="Probe")
    requested_goal: str = pa.Field(description="Goal that was asked to move")
    observed_goal: str = pa.Field(description="Goal whose movement is reported")
    slope: float = pa.Field(
        nullable=True, description="Move of the observed goal per unit asked of the requested one (least squares)"
    )
    low: float = pa.Field(nullable=True, description="Lower end of the 95 % interval, clustered by source text")
    high: float = pa.Field(nullable=True, description="Upper end")
    correlation: float = pa.Field(nullable=True, ge=-1.0, le=1.0, description="Pearson correlation of the two")
    n: int = pa.Field(ge=0, description="Requests with both defined")


class ClosedForm(Contract, table="closed_form", key=("measure",)):
    """Largest deviation of `copy` from its closed form: error |r|, miscalibration 1, orthogonality 0."""

    measure: str = pa.Field(unique=True, description="Column of `steerability`")
    largest_deviation: float = pa.Field(ge=0.0, description="max |measured - closed form| over the requests")
    n: int = pa.Field(ge=0, description="Requests")


class Leaderboard(Contract, table="leaderboard", key=("probe", "model", "method")):
    """All cells of one goal space and probe, one row each."""

    goal_space_id: str = pa.Field(description="Goal space: rows of different ones never compare")
    probe: str = pa.Field(description="Probe")
    model: str = pa.Field(description="Model slug")
    method: str = pa.Field(description="Method slug")
    rank: int = pa.Field(ge=1, description="Rank by mean error, worst-case reading")
    error: float = pa.Field(nullable=True, description="Mean steering error, complete cases")
    error_low: float = pa.Field(nullable=True, description="Lower end of its 95 % interval")
    error_high: float = pa.Field(nullable=True, description="Upper end")
    error_worst: float = pa.Field(description="Mean steering error, failures at their worst")
    miscalibration: float = pa.Field(nullable=True, description="Median miscalibration")
    orthogonality: float = pa.Field(nullable=True, description="Median orthogonality")
    error_binned: float = pa.Field(nullable=True, description="Median binned error (the published headline number)")
    vs_copy: float = pa.Field(nullable=True, description="Relative difference of error to `copy`")
    meaning_content: float = pa.Field(nullable=True, description="Mean content-word F1 with the source")
    failed: float = pa.Field(ge=0.0, le=1.0, description="Share of requests that failed")
    copied: float = pa.Field(ge=0.0, le=1.0, description="Share of requests answered with the source")
    completion_tokens: float = pa.Field(ge=0.0, description="Tokens written per request, all attempts")
    n: int = pa.Field(ge=0, description="Requests")
    n_clusters: int = pa.Field(ge=0, description="Source texts")
