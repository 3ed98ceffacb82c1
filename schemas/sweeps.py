"""Behavior sweeps: arms, what they wrote, how it was judged, what it cost."""

from __future__ import annotations

import polars as pl

from schemas.contract import Contract, column

ROLES = ["off", "vector", "random", "shuffled", "prompt"]


class SweepArms(Contract, table="sweep_arms", key=("arm_id",), version=2):
    """One setting inside a cell: arms are rows, never partitions."""

    @classmethod
    def migrate(cls, rows: pl.DataFrame, version: int) -> pl.DataFrame | None:
        """In version 1 nothing was shown in examples, and nothing said which end a prompt asks for."""
        if version != 1:
            return None
        return rows.with_columns(turns=pl.lit(None, pl.String), side=pl.lit(None, pl.Int64)).select(cls.names())

    arm_id: str = column(unique=True, description="Hash of the setting")
    spec_hash: str = column(description="Hash of the method part that the arm belongs to")
    behavior: str = column(description="Behavior")
    role: str = column(
        isin=ROLES,
        description="`off`: unsteered; `vector`; `random`/`shuffled`: controls of equal norm; `prompt`: asked in words "
        "or shown examples",
    )
    strength: float = column(nullable=True, description="Strength, in `unit`; null where no vector is applied")
    unit: str = column(nullable=True, description="Unit of the strength")
    coefficient: float = column(nullable=True, description="What multiplies the vector at the first of its layers")
    layers: str = column(description="Layers, as JSON; [] where no vector is applied")
    site: str = column(nullable=True, description="Where in the layer")
    positions: str = column(nullable=True, description="Positions that are steered")
    seed: int = column(ge=0, description="Seed of the fit or of the control")
    system: str = column(nullable=True, description="System prompt of a `prompt` arm")
    turns: str = column(nullable=True, description="Examples of a `prompt` arm, as JSON: turns before the item's own")
    side: int = column(
        nullable=True, isin=[-1, 1], description="Of a `prompt` arm: 1 asks for the behavior, -1 for its opposite"
    )
    vectors: str = column(description="Ids of the vectors, as JSON")
    interventions: str = column(description="What is done to activations, as JSON: the arm's part of every plan")
    n_calls: int = column(ge=0, description="Texts to write")
    n_scored: int = column(ge=0, description="Continuations to score")
    max_new_tokens: int = column(ge=0, description="Tokens that may be written, all calls together")
    seconds: float = column(nullable=True, ge=0.0, description="Estimate from the speed so far; null before any")


class ArmAnswers(Contract, table="arm_answers", key=("arm_id", "item_id", "sample_index")):
    """Which response answers which item in which arm."""

    arm_id: str = column(description="Arm")
    item_id: str = column(description="Behavior item")
    sample_index: int = column(ge=0, description="Index among the samples of the item")
    response_id: str = column(description="Response, in `sweep_responses`")
    text: str = column(description="What was written, cleaned")
    failure: str = column(
        nullable=True,
        isin=["empty", "truncated", "overlong", "filtered"],
        description="Why it is no answer; null where it is one",
    )


class Judgements(Contract, table="judgements", key=("response_id", "item_id", "judge_id", "rubric", "repeat")):
    """One verdict of one judge on one response; never a column of the responses."""

    response_id: str = column(description="Response that was judged")
    item_id: str = column(description="Item that it answers")
    judge_id: str = column(description="Judge: kind, model and settings, hashed")
    rubric: str = column(description="Rubric name and version")
    repeat: int = column(ge=0, description="Index among repeated judgements")
    value: float = column(nullable=True, description="Verdict on the rubric's scale; null: not parsed, never 0")
    state: str = column(
        isin=["ok", "unparsed", "no_answer"], description="`unparsed`: missing; `no_answer`: nothing to judge"
    )
    method: str = column(
        isin=["ground_truth", "text", "expected"],
        description="`text`: read from words; `expected`: mean over answer probabilities",
    )
    raw: str = column(description="What the judge said")


class ArmScores(Contract, table="arm_scores", key=("arm_id", "item_id", "sample_index", "measure")):
    """Every measure of every item in every arm, long."""

    arm_id: str = column(description="Arm")
    item_id: str = column(description="Behavior item")
    sample_index: int = column(ge=0, description="Index among the samples of the item; 0 for scored items")
    group: str = column(description="Set of items that is reported apart")
    measure: str = column(
        description="`judged`, `p_positive`, `pair_mass`, `propensity`, `perplexity`, `kl`, `length`, `refused` ..."
    )
    value: float = column(nullable=True, description="Value; null where it is undefined")


class ArmSummary(Contract, table="arm_summary", key=("arm_id", "group", "measure")):
    """Mean of a measure in an arm, with its interval, and the paired difference to the unsteered arm."""

    arm_id: str = column(description="Arm")
    behavior: str = column(description="Behavior")
    role: str = column(isin=ROLES, description="Role of the arm")
    strength: float = column(nullable=True, description="Strength, in `unit`")
    unit: str = column(nullable=True, description="Unit of the strength")
    layers: str = column(description="Layers, as JSON")
    positions: str = column(nullable=True, description="Positions that are steered")
    seed: int = column(ge=0, description="Seed of the fit or of the control")
    group: str = column(description="Set of items")
    measure: str = column(description="Measure")
    mean: float = column(nullable=True, description="Mean over items")
    low: float = column(nullable=True, description="Lower end of the 95 % interval, clustered by item")
    high: float = column(nullable=True, description="Upper end")
    difference: float = column(nullable=True, description="Paired difference to the unsteered arm")
    difference_low: float = column(nullable=True, description="Lower end of its 95 % interval, clustered by item")
    difference_high: float = column(nullable=True, description="Upper end")
    missing: float = column(ge=0.0, le=1.0, description="Share of rows without a value")
    n: int = column(ge=0, description="Rows behind the mean")
    n_clusters: int = column(ge=0, description="Items behind the mean: the real sample size")


class JudgeCalibration(Contract, table="judge_calibration", key=("behavior",)):
    """A behavior's judge beside the truth: its verdicts on the test items' own two answers, whose label is known."""

    behavior: str = column(description="Behavior")
    judge_id: str = column(description="Judge: rubric, version, model")
    auroc: float = column(
        nullable=True, ge=0.0, le=1.0, description="Chance that it grades an answer with the trait above one without"
    )
    low: float = column(nullable=True, description="Lower end of its 95 % interval, clustered by item; .5 is chance")
    high: float = column(nullable=True, description="Upper end")
    accuracy: float = column(
        nullable=True, ge=0.0, le=1.0, description="Share of verdicts on the right side of the middle of the scale"
    )
    bias: float = column(nullable=True, description="Mean of verdict minus truth, in widths of the scale")
    unparsed: float = column(ge=0.0, le=1.0, description="Share of answers without a verdict")
    n: int = column(ge=0, description="Answers with a verdict")


class SweepFindings(
    Contract, table="sweep_findings", key=("behavior", "layers", "positions", "group", "measure", "finding")
):
    """What a sweep says as a whole: slope, monotony, anti-steerable share, rank among the controls."""

    behavior: str = column(description="Behavior")
    layers: str = column(description="Layers, as JSON")
    positions: str = column(description="Positions that are steered")
    group: str = column(description="Set of items")
    measure: str = column(description="Measure")
    finding: str = column(
        description="`slope`, `spearman`, `anti_steerable`, `effect_low`, `p_random_low` ... (older: `beyond_...`)"
    )
    value: float = column(nullable=True, description="The figure")
    low: float = column(nullable=True, description="Lower end of the 95 % interval, clustered by item")
    high: float = column(nullable=True, description="Upper end")
    n: int = column(ge=0, description="Items, or control arms, behind the figure")
    detail: str = column(description="What the figure says, in words")
