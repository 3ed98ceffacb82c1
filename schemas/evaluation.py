"""Steerability: one row a request, its movements goal by goal, and the summaries with intervals."""

from __future__ import annotations

import polars as pl

from schemas.contract import Contract, column

READINGS = ["complete", "worst"]
#: Arm of what a method would be used with: picked on the training pool, and all that there is of most methods.
HEADLINE = "headline"
_ARM = "`headline`, or the id of another arm in `probe_arms`"


def with_arm(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows of a version that knew one arm."""
    return rows.with_columns(arm_id=pl.lit(HEADLINE))


class GoalMovements(Contract, table="goal_movements", key=("arm_id", "request_id", "goal"), version=2):
    """Where each request started, was asked to go, and went, goal by goal."""

    @classmethod
    def migrate(cls, rows: pl.DataFrame, version: int) -> pl.DataFrame | None:
        """Version 1 knew one arm."""
        return with_arm(rows).select(cls.names()) if version == 1 else None

    arm_id: str = column(description=_ARM)
    request_id: str = column(description="Request")
    probe: str = column(description="Probe")
    goal: str = column(description="Goal name")
    z0: float = column(ge=0.0, le=1.0, description="Start, clipped")
    z_star: float = column(nullable=True, ge=0.0, le=1.0, description="Target; null where inactive")
    z_hat: float = column(nullable=True, ge=0.0, le=1.0, description="Reached, clipped; null where undefined")
    overshoot: float = column(
        nullable=True, description="Signed distance of the unclipped value beyond [0, 1]; 0 inside"
    )
    value: float = column(nullable=True, description="Reached, in the scorer's own unit")


class Steerability(Contract, table="steerability", key=("arm_id", "request_id"), version=2):
    """Scores of one request. Null scores: the outcome has no defined position in goal space."""

    @classmethod
    def migrate(cls, rows: pl.DataFrame, version: int) -> pl.DataFrame | None:
        """Version 1 shuffled targets across texts: that figure said something else, and is left null."""
        if version != 1:
            return None
        return with_arm(rows.with_columns(error_permuted=pl.lit(None, pl.Float64))).select(cls.names())

    arm_id: str = column(description=_ARM)
    request_id: str = column(description="Request")
    probe: str = column(description="Probe")
    goal_space_id: str = column(description="Goal space; results never compare across goal spaces")
    text_id: str = column(description="Source text: the cluster of every interval")
    failure: str = column(
        nullable=True,
        isin=["empty", "truncated", "overlong", "unparsable", "refused", "filtered", "undefined"],
        description="Why the row is not a complete case",
    )
    copied: bool = column(description="True where the source came back unchanged")
    requested: float = column(ge=0.0, description="|z* - z0|")
    moved: float = column(nullable=True, ge=0.0, description="|zh - z0|")
    error: float = column(nullable=True, ge=0.0, description="|z* - zh|")
    miscalibration: float = column(nullable=True, ge=0.0, description="Error along the request, in units of |r|")
    orthogonality: float = column(nullable=True, ge=0.0, le=1.0, description="Share of the move made that was off-axis")
    sensitivity: float = column(nullable=True, ge=0.0, description="|m| / |r| (2024); null where nothing was asked")
    directionality: float = column(nullable=True, ge=-1.0, le=1.0, description="cos(m, r) (2024); null if r or m is 0")
    score: float = column(nullable=True, description="(m.r) / |r|^2 (2024); null where nothing was asked")
    error_binned: float = column(nullable=True, ge=0.0, description="Error on the published lattice of sevenths")
    miscalibration_binned: float = column(nullable=True, ge=0.0, description="Miscalibration on the lattice")
    orthogonality_binned: float = column(nullable=True, ge=0.0, le=1.0, description="Orthogonality on the lattice")
    error_worst: float = column(ge=0.0, description="`error`, or the distance to the farthest corner on a failure")
    miscalibration_worst: float = column(ge=0.0, description="`miscalibration`, or its largest value on a failure")
    orthogonality_worst: float = column(ge=0.0, le=1.0, description="`orthogonality`, or 1 on a failure")
    error_permuted: float = column(
        nullable=True,
        ge=0.0,
        description="Mean |z*' - zh| over all requests on the text; null where there is no other",
    )
    meaning_content: float = column(
        nullable=True, ge=0.0, le=1.0, description="F1 of content-word stems with the source"
    )
    meaning_chrf: float = column(
        nullable=True, ge=0.0, le=1.0, description="chrF (character 6-gram F2) with the source"
    )
    meaning_embedding: float = column(
        nullable=True,
        ge=-1.0,
        le=1.0,
        description="Cosine of sentence embeddings with the source; null without a `meaning_model`",
    )


class SteerabilitySummary(
    Contract,
    table="steerability_summary",
    key=("arm_id", "probe", "measure", "goal", "reading", "statistic"),
    version=2,
):
    """One figure a row: a measure of a probe under a reading, with its interval clustered by source text."""

    @classmethod
    def migrate(cls, rows: pl.DataFrame, version: int) -> pl.DataFrame | None:
        """Version 1 had other meanings of `move_ratio` and `error_permuted`: those are left null."""
        if version != 1:
            return None
        kept = pl.when(~pl.col("measure").is_in(["move_ratio", "error_permuted"]))
        return with_arm(rows.with_columns(kept.then(pl.col("value", "low", "high")))).select(cls.names())

    arm_id: str = column(description=_ARM)
    probe: str = column(description="Probe")
    goal_space_id: str = column(description="Goal space")
    measure: str = column(description="Column of `steerability`, or a rate: `truncated`, `copied`, `failed`")
    goal: str = column(description="Goal, or `overall`")
    reading: str = column(isin=READINGS, description="`complete`: failures left out; `worst`: at their worst value")
    statistic: str = column(isin=["mean", "median", "iqr"], description="Which statistic")
    value: float = column(nullable=True, description="The figure; null where no row defines it")
    low: float = column(nullable=True, description="Lower end of the 95 % interval, clustered by source text")
    high: float = column(nullable=True, description="Upper end")
    n: int = column(ge=0, description="Requests behind the figure")
    n_clusters: int = column(ge=0, description="Source texts behind the figure: the real sample size")


class Comparisons(Contract, table="comparisons", key=("arm_id", "probe", "control", "measure", "reading"), version=2):
    """Paired contrast of a cell with a control on the same requests."""

    @classmethod
    def migrate(cls, rows: pl.DataFrame, version: int) -> pl.DataFrame | None:
        """Version 1 shuffled targets across texts: its `permuted` rows keep their counts and no figure."""
        if version != 1:
            return None
        figures = ["control_value", "difference", "low", "high", "relative", "share_better"]
        kept = pl.when(pl.col("control") != "permuted").then(pl.col(figures))
        known = with_arm(rows.with_columns(kept).with_columns(p=pl.lit(None, pl.Float64)))
        return known.select(cls.names())

    arm_id: str = column(description=_ARM)
    probe: str = column(description="Probe")
    goal_space_id: str = column(description="Goal space")
    control: str = column(description="`copy`, `rewrite`, or `permuted` (the other requests on the same text)")
    measure: str = column(description="Column of `steerability`")
    reading: str = column(isin=READINGS, description="Complete cases of both sides, or worst case")
    value: float = column(nullable=True, description="Mean of the measure in this cell, over the paired requests")
    control_value: float = column(nullable=True, description="Mean of the measure in the control")
    difference: float = column(nullable=True, description="value - control_value; below 0 is better for errors")
    low: float = column(nullable=True, description="Lower end of the 95 % interval, clustered by source text")
    high: float = column(nullable=True, description="Upper end")
    relative: float = column(nullable=True, description="difference / control_value")
    share_better: float = column(nullable=True, ge=0.0, le=1.0, description="Share of requests with a smaller value")
    n: int = column(ge=0, description="Paired requests")
    n_clusters: int = column(ge=0, description="Source texts")
    p: float = column(
        nullable=True,
        ge=0.0,
        le=1.0,
        description="Of `permuted`: rank of the real pairing among requests shuffled within texts, one-sided",
    )


class SideEffects(
    Contract, table="side_effects", key=("arm_id", "probe", "requested_goal", "observed_goal"), version=2
):
    """What moves when a goal is asked for: the side-effect matrix, one entry a row."""

    @classmethod
    def migrate(cls, rows: pl.DataFrame, version: int) -> pl.DataFrame | None:
        """Version 1 had slopes across texts, which count regression to the mean as obedience: they are left null."""
        figures = ["slope", "low", "high", "correlation"]
        if version != 1:
            return None
        nulled = rows.with_columns(pl.lit(None, pl.Float64).alias(c) for c in figures)
        return with_arm(nulled).select(cls.names())

    arm_id: str = column(description=_ARM)
    probe: str = column(description="Probe")
    requested_goal: str = column(description="Goal that was asked to move")
    observed_goal: str = column(description="Goal whose movement is reported")
    slope: float = column(
        nullable=True,
        description="Move of the observed goal per unit asked of the requested one, within texts",
    )
    low: float = column(nullable=True, description="Lower end of the 95 % interval, clustered by source text")
    high: float = column(nullable=True, description="Upper end")
    correlation: float = column(nullable=True, ge=-1.0, le=1.0, description="Pearson correlation, within texts")
    n: int = column(ge=0, description="Requests with both defined, on texts asked for two different moves")


class ClosedForm(Contract, table="closed_form", key=("measure",)):
    """Largest deviation of `copy` from its closed form: error |r|, miscalibration 1, orthogonality 0."""

    measure: str = column(unique=True, description="Column of `steerability`")
    largest_deviation: float = column(ge=0.0, description="max |measured - closed form| over the requests")
    n: int = column(ge=0, description="Requests")


class Leaderboard(Contract, table="leaderboard", key=("probe", "model", "method"), version=3):
    """All cells of one goal space and probe, one row each. Errors are read with failures at their worst throughout."""

    @classmethod
    def migrate(cls, rows: pl.DataFrame, version: int) -> pl.DataFrame | None:
        """Version 1 mixed two readings; what it had of this one is kept, the rest is null.

        Version 2 had 0 tokens for answers made elsewhere, of which nobody here knows what they took.
        """
        if version == 2:
            return rows.with_columns(
                completion_tokens=pl.when(pl.col("model") != "elsewhere").then("completion_tokens")
            )
        if version != 1:
            return None
        unknown = [
            *("error_low", "error_high", "miscalibration", "orthogonality"),
            *(f"vs_{other}{end}" for other in ("copy", "best") for end in ("", "_low", "_high")),
        ]
        known = rows.with_columns(error_complete=pl.col("error"), error=pl.col("error_worst"), best=pl.lit(""))
        nulled = known.with_columns(pl.lit(None, pl.Float64).alias(c) for c in unknown)
        return nulled.select(cls.names())

    goal_space_id: str = column(description="Goal space: rows of different ones never compare")
    probe: str = column(description="Probe")
    model: str = column(description="Model slug")
    method: str = column(description="Method slug")
    rank: int = column(ge=1, description="Rank by `error`, controls included")
    error: float = column(ge=0.0, description="Mean steering error, failures at their worst")
    error_low: float = column(nullable=True, description="Lower end of its 95 % interval, clustered by source text")
    error_high: float = column(nullable=True, description="Upper end")
    vs_copy: float = column(
        nullable=True, description="Relative difference of `error` to `copy` of the same model, paired by request"
    )
    vs_copy_low: float = column(nullable=True, description="Lower end of its 95 % interval")
    vs_copy_high: float = column(nullable=True, description="Upper end")
    best: str = column(description="First cell that is no control, `method|model`; empty where there is none")
    vs_best: float = column(
        nullable=True, description="Difference of `error` to that cell, paired by request; 0 for itself"
    )
    vs_best_low: float = column(nullable=True, description="Lower end of its 95 % interval")
    vs_best_high: float = column(nullable=True, description="Upper end")
    miscalibration: float = column(nullable=True, description="Median miscalibration, failures at their worst")
    orthogonality: float = column(nullable=True, description="Median orthogonality, failures at their worst")
    error_complete: float = column(nullable=True, description="Mean steering error of the complete cases alone")
    error_binned: float = column(
        nullable=True, description="Median binned error of the complete cases (the published headline number)"
    )
    meaning_content: float = column(nullable=True, description="Mean content-word F1 with the source, complete cases")
    failed: float = column(ge=0.0, le=1.0, description="Share of requests that failed")
    copied: float = column(ge=0.0, le=1.0, description="Share of requests answered with the source")
    completion_tokens: float = column(
        nullable=True,
        ge=0.0,
        description="Tokens written per request, all attempts; null for answers made elsewhere: nobody here knows",
    )
    n: int = column(ge=0, description="Requests")
    n_clusters: int = column(ge=0, description="Source texts")


class ProbeArms(Contract, table="probe_arms", key=("arm_id",)):
    """Settings that the probe is also measured at: fixed strengths, checkpoints, seeds. One is the headline."""

    arm_id: str = column(unique=True, description="`headline`, or a hash of part and settings")
    part: str = column(description="Label of the part that is set; empty for the headline")
    label: str = column(description="What the arm is, in words")
    position: float = column(nullable=True, description="Where it stands on an axis: strength, step; null for none")
    axis: str = column(description="What that axis is; empty for none")
    settings: str = column(description="The setting as JSON")
