"""Profiles: what a model is like apart from what was asked, item by item, in figures, and in differences."""

from __future__ import annotations

from typing import Any

import polars as pl

from schemas.contract import Contract, column

_METRIC = "Metric; `steer_core.evaluation.profiles.describe_metrics` says what each is, with its unit"


class TextProfiles(Contract, table="text_profiles", key=("text_id", "metric")):
    """Characteristics of texts, long: a new metric changes no schema. One of `value` and `missing` is null."""

    text_id: str = column(description="Content hash of the text")
    metric: str = column(min_length=1, description=_METRIC)
    value: float = column(nullable=True, description="Value in the metric's own unit; null where it is missing")
    missing: str = column(nullable=True, min_length=1, description="Why there is no value; null where there is one")

    @classmethod
    def to_schema(cls) -> Any:
        """The table as pandera checks it: a value, or the reason why there is none."""
        if cls._schema is None:
            from pandera.polars import Check

            built = super().to_schema()
            one_of_both = Check(
                lambda data: data.lazyframe.select(pl.col("value").is_null() != pl.col("missing").is_null()),
                name="value_or_reason",
                error="a row has a value, or the reason why it is missing, and not both",
            )
            built.checks = [*built.checks, one_of_both]
        return cls._schema


class ProfileSummary(Contract, table="profile_summary", key=("metric", "statistic")):
    """A metric over the texts of a profile: mean or median, with its interval clustered by item."""

    metric: str = column(description=_METRIC)
    statistic: str = column(isin=["mean", "median"], description="`mean` or `median` over the answers")
    value: float = column(nullable=True, description="The figure; null where no answer has a value")
    low: float = column(nullable=True, description="Lower end of the 95 % interval, clustered by item")
    high: float = column(nullable=True, description="Upper end")
    missing: float = column(ge=0.0, le=1.0, description="Share of answers without a value")
    n: int = column(ge=0, description="Answers with a value")
    n_clusters: int = column(ge=0, description="Items with such an answer: the real sample size")


class ProfileDifferences(Contract, table="profile_differences", key=("metric",)):
    """Two profiles on the same items: the paired difference of each metric, and whether it stands among all."""

    metric: str = column(unique=True, description=_METRIC)
    value: float = column(nullable=True, description="Mean over the paired items")
    other_value: float = column(nullable=True, description="The same of the other profile")
    difference: float = column(nullable=True, description="value - other_value")
    low: float = column(
        nullable=True, description="Lower end of its 95 % interval, clustered by item; this metric alone"
    )
    high: float = column(nullable=True, description="Upper end")
    p: float = column(nullable=True, ge=0.0, le=1.0, description="Two-sided, by exchanging the two within items")
    p_adjusted: float = column(nullable=True, ge=0.0, le=1.0, description="p, corrected for all metrics (Holm)")
    different: bool = column(description="Whether `p_adjusted` is at most the level asked for")
    n: int = column(ge=0, description="Items with a value on both sides")
    missing: float = column(ge=0.0, le=1.0, description="Share of the answers that have no value")
    other_missing: float = column(ge=0.0, le=1.0, description="The same of the other profile")


FORMS = ["written", "scored", "encoded"]
#: Setting of a model as it is.
PLAIN = "plain"
_ARM = "Setting, in `profile_arms`"
_PROFILE = "Profile, as `profiles.yaml` calls it"


class ProfileItems(Contract, table="profile_items", key=("item_id",)):
    """What a bench's profiles ask: one row an item, whoever is asked."""

    item_id: str = column(unique=True, description="Hash of the profile and of what is asked")
    profile: str = column(description=_PROFILE)
    form: str = column(isin=FORMS, description="`written`: answered; `scored`: options are; `encoded`: read")
    cluster: str = column(min_length=1, description="What items share, and intervals are clustered by")
    group: str = column(description="Category that is reported apart; empty where there is none")
    messages: str = column(nullable=True, description="Turns of the prompt, as JSON; null where it is a bare text")
    text: str = column(nullable=True, description="The bare prompt; null where there are turns")
    options: str = column(description="Continuations that are scored, as JSON; [] where the answer is written")
    gold: int = column(nullable=True, ge=0, description="Place of the right option; null where there is none")
    facts: str = column(description="What the measure needs besides, as JSON")
    source: str = column(description="Where it is from")
    row: int = column(ge=0, description="0-based row there")


class ProfileArms(Contract, table="profile_arms", key=("arm_id",)):
    """The settings in which a cell is profiled: the model as it is, and what the method does for each request."""

    arm_id: str = column(unique=True, description="Hash of what is done to a plan; `plain`: nothing")
    label: str = column(min_length=1, description="What it is, in words")
    role: str = column(
        isin=[PLAIN, "request", "arm", "behavior", "pair"],
        description="`plain`; the method as a `request` takes it; another `arm` of it; a `behavior`'s vector; a `pair`",
    )
    asked: str = column(description="What is asked for, as JSON: goal -> move, or the behavior or pair; {}: nothing")
    position: float = column(nullable=True, description="Where it stands on its axis; null for none")
    axis: str = column(description="What the axis is, with its unit: strengths, training steps")
    system: str = column(nullable=True, description="What the method says in front of every prompt; null: nothing")
    interventions: str = column(description="What is done to activations, as JSON")
    adapter: str = column(nullable=True, description="Digest of the adapter that is worn; null: none")
    extensions: str = column(description="Decoding rules, as JSON; [] where there are none")
    probe_arm: str = column(nullable=True, description="The same setting on the probe, in `probe_arms`; null: none")


class ScoredTexts(Contract, table="scored_texts", key=("score_id",)):
    """Journal of continuations that were scored: what was paid for once is never paid for again."""

    score_id: str = column(unique=True, description="Hash of plan, continuation and execution fingerprint")
    log_likelihood: float = column(nullable=True, description="Nats, summed; null where it does not fit the context")
    tokens: int = column(ge=0, description="Tokens that were scored")


class OptionScores(Contract, table="option_scores", key=("arm_id", "item_id", "option")):
    """How likely each option of each item is in each setting: every figure follows from these without the model."""

    arm_id: str = column(description=_ARM)
    profile: str = column(description=_PROFILE)
    item_id: str = column(description="Item")
    option: int = column(ge=0, description="Place of the option")
    log_likelihood: float = column(nullable=True, description="Nats, summed over its tokens; null: not scored")
    tokens: int = column(ge=0, description="Tokens of the option; 0 where it was not scored")
    bytes: int = column(ge=1, description="Bytes of the option in UTF-8")
    unconditional: float = column(nullable=True, description="Nats of the same tokens with nothing before them")
    missing: str = column(nullable=True, min_length=1, description="Why it was not scored; null where it was")


class ProfileVectors(Contract, table="profile_vectors", key=("arm_id", "item_id")):
    """Where a text lies in the model, in each setting: mean over its positions of the last layer."""

    arm_id: str = column(description=_ARM)
    profile: str = column(description=_PROFILE)
    item_id: str = column(description="Item")
    values: pl.List(pl.Float32) = column(nullable=True, description="Activations; null where there are none")  # type: ignore[valid-type]
    missing: str = column(nullable=True, min_length=1, description="Why there are none; null where there are")


class ProfileJudges(Contract, table="profile_judges", key=("profile", "rating")):
    """Who judges each rating of a profile, and what the verdicts are worth: on answers whose rating is known."""

    profile: str = column(description=_PROFILE)
    rating: str = column(min_length=1, description="What is rated; the name of its rubric")
    judge_id: str = column(description="Judge: kind, model, settings and rubric, hashed")
    rubric: str = column(description="Rubric name and version")
    method: str = column(
        isin=["ground_truth", "text", "expected"], description="How its verdicts are come by, as in `judgements`"
    )
    auroc: float = column(
        nullable=True,
        ge=0.0,
        le=1.0,
        description="Chance that it grades the better of two known answers above the other; null: not tried",
    )
    low: float = column(nullable=True, description="Lower end of its 95 % interval, clustered by pair; .5 is chance")
    high: float = column(nullable=True, description="Upper end")
    accuracy: float = column(
        nullable=True, ge=0.0, le=1.0, description="Share of verdicts on the right side of the middle of the scale"
    )
    bias: float = column(nullable=True, description="Mean of verdict minus truth, in widths of the scale")
    unparsed: float = column(nullable=True, ge=0.0, le=1.0, description="Share of known answers without a verdict")
    n: int = column(ge=0, description="Known answers with a verdict")
    tells: bool = column(
        nullable=True, description="Whether `low` is above .5: it can tell them apart; null: it was not tried"
    )


class ProfileReadings(Contract, table="profile_readings", key=("profile", "text_id", "metric")):
    """What models make of the texts of written answers, each text once: coherence, perplexity."""

    profile: str = column(description=_PROFILE)
    text_id: str = column(description="Content hash of the text")
    metric: str = column(min_length=1, description=_METRIC)
    value: float = column(nullable=True, description="Value in the metric's own unit; null where it is missing")
    missing: str = column(nullable=True, min_length=1, description="Why there is no value; null where there is one")


class ProfileRefusals(Contract, table="profile_refusals", key=("arm_id", "profile")):
    """Settings in which a profile's prompts could not be answered: the engine cannot do what they ask for."""

    arm_id: str = column(description=_ARM)
    profile: str = column(description=_PROFILE)
    why: str = column(min_length=1, description="What the engine says")


class ProfileValues(Contract, table="profile_values", key=("arm_id", "item_id", "sample_index", "metric")):
    """Every metric of every item in every setting, long: a new metric changes no schema."""

    arm_id: str = column(description=_ARM)
    profile: str = column(description=_PROFILE)
    item_id: str = column(description="Item")
    sample_index: int = column(ge=0, description="Index among the samples of the item; 0 where it is not sampled")
    metric: str = column(min_length=1, description="Metric, with the name of what measured it where that matters")
    value: float = column(nullable=True, description="Value; null where it is missing")
    missing: str = column(nullable=True, min_length=1, description="Why there is no value; null where there is one")


class ProfileFigures(Contract, table="profile_figures", key=("arm_id", "profile", "group", "metric", "setting")):
    """What a profile comes to in each setting, with all choices that a figure depends on."""

    arm_id: str = column(description=_ARM)
    profile: str = column(description=_PROFILE)
    group: str = column(description="Category; `all` for all items")
    metric: str = column(min_length=1, description="Metric")
    setting: str = column(description="Choices behind it, in words: normalisation, bins, k, reading; may be empty")
    value: float = column(nullable=True, description="The figure; null where nothing defines it")
    low: float = column(nullable=True, description="Lower end of the 95 % interval, clustered; null where it has none")
    high: float = column(nullable=True, description="Upper end")
    n: int = column(ge=0, description="Items (or samples) behind it")
    n_clusters: int = column(ge=0, description="Clusters behind it: the real sample size")
    left_out: int = column(ge=0, description="Items that are in no figure: not scored, undefined, missing")
    why: str = column(description="Why there is no value, or what to know of it; may be empty")


class ProfileChanges(Contract, table="profile_changes", key=("arm_id", "profile", "metric"), version=2):
    """What a setting changes against the model as it is, on the same items, and whether it stands among all."""

    @classmethod
    def migrate(cls, rows: pl.DataFrame, version: int) -> pl.DataFrame | None:
        """Version 1 did not say of which form of a profile it was."""
        return rows.with_columns(asked=pl.lit("")).select(cls.names()) if version == 1 else None

    arm_id: str = column(description=_ARM)
    profile: str = column(description=_PROFILE)
    metric: str = column(min_length=1, description="Metric")
    value: float = column(nullable=True, description="Mean over the paired items, in this setting")
    plain_value: float = column(nullable=True, description="The same of the model as it is")
    difference: float = column(nullable=True, description="value - plain_value")
    low: float = column(nullable=True, description="Lower end of its 95 % interval, clustered; this metric alone")
    high: float = column(nullable=True, description="Upper end")
    effect_size: float = column(
        nullable=True, description="difference / standard deviation of the plain model's items; null where that is 0"
    )
    p: float = column(nullable=True, ge=0.0, le=1.0, description="Two-sided, by exchanging the two within clusters")
    p_adjusted: float = column(nullable=True, ge=0.0, le=1.0, description="p, corrected for all of the cell (Holm)")
    different: bool = column(description="Whether `p_adjusted` is at most .05")
    n: int = column(ge=0, description="Items with a value on both sides")
    n_clusters: int = column(ge=0, description="Clusters of those: the real sample size")
    missing: float = column(ge=0.0, le=1.0, description="Share of values that are missing in this setting")
    plain_missing: float = column(ge=0.0, le=1.0, description="The same of the model as it is")
    asked: str = column(description="Digest of the profile as it was asked: settings and items; empty: not known")


class ProfileContrasts(
    Contract,
    table="profile_contrasts",
    key=("model", "method", "other_method", "request", "profile", "metric"),
):
    """Two cells of one model asked for the same, item by item: what they differ in apart from the request."""

    model: str = column(description="Model")
    method: str = column(description="Method")
    other_method: str = column(description="Method that it is held against")
    request: str = column(description="What both are asked for, as JSON: goal -> move")
    arm_id: str = column(description="Setting of the one, in its `profile_arms`")
    other_arm_id: str = column(description="Setting of the other, in its own")
    profile: str = column(description=_PROFILE)
    metric: str = column(min_length=1, description="Metric")
    value: float = column(nullable=True, description="Mean over the paired items, of the one")
    other_value: float = column(nullable=True, description="The same of the other")
    difference: float = column(nullable=True, description="value - other_value")
    low: float = column(nullable=True, description="Lower end of its 95 % interval, clustered; this metric alone")
    high: float = column(nullable=True, description="Upper end")
    effect_size: float = column(
        nullable=True, description="difference / standard deviation of the other's items; null where that is 0"
    )
    p: float = column(nullable=True, ge=0.0, le=1.0, description="Two-sided, by exchanging the two within clusters")
    p_adjusted: float = column(nullable=True, ge=0.0, le=1.0, description="p, corrected for all of the table (Holm)")
    different: bool = column(description="Whether `p_adjusted` is at most .05")
    n: int = column(ge=0, description="Items with a value on both sides")
    n_clusters: int = column(ge=0, description="Clusters of those: the real sample size")
    missing: float = column(ge=0.0, le=1.0, description="Share of values that are missing")
    other_missing: float = column(ge=0.0, le=1.0, description="The same of the other")


class ProfileSynergy(Contract, table="profile_synergy", key=("arm_id", "profile", "metric")):
    """Two vectors at once against each alone, on the same items: what they do together beyond the sum of both."""

    arm_id: str = column(description="Setting of both, in `profile_arms`")
    first_arm: str = column(description="Setting of the first alone, at the same strength")
    second_arm: str = column(description="Setting of the second alone")
    profile: str = column(description=_PROFILE)
    metric: str = column(min_length=1, description="Metric")
    both: float = column(nullable=True, description="Effect of both: mean difference to the model as it is")
    first: float = column(nullable=True, description="Effect of the first alone, on the same items")
    second: float = column(nullable=True, description="Effect of the second alone, on the same items")
    synergy: float = column(nullable=True, description="both - (first + second)")
    low: float = column(nullable=True, description="Lower end of its 95 % interval, clustered; this metric alone")
    high: float = column(nullable=True, description="Upper end")
    p: float = column(
        nullable=True, ge=0.0, le=1.0, description="Two-sided, by turning the sign within clusters at random"
    )
    p_adjusted: float = column(nullable=True, ge=0.0, le=1.0, description="p, corrected for all rows (Holm)")
    different: bool = column(description="Whether `p_adjusted` is at most .05")
    n: int = column(ge=0, description="Items with a value in all four settings")
    n_clusters: int = column(ge=0, description="Clusters of those: the real sample size")


class Frontier(Contract, table="frontier", key=("model", "method", "probe", "arm_id")):
    """What each setting of each cell gains on the probe, beside what it costs apart from the request."""

    model: str = column(description="Model")
    method: str = column(description="Method")
    probe: str = column(description="Probe")
    arm_id: str = column(description="Setting, in the cell's `profile_arms`; `plain`: the model as it is, unasked")
    label: str = column(description="What it is, in words")
    headline: bool = column(description="Whether it is the method as it is used")
    error: float = column(nullable=True, description="Mean steering error, failures at their worst")
    error_low: float = column(nullable=True, description="Lower end of its 95 % interval, clustered by source text")
    error_high: float = column(nullable=True, description="Upper end")
    profile: str = column(description="Profile that the cost is of; empty where no profile has a capability")
    metric: str = column(description="Its capability")
    cost: float = column(nullable=True, description="What is lost of it against the model as it is; below 0 is a gain")
    cost_low: float = column(nullable=True, description="Lower end of its 95 % interval, clustered")
    cost_high: float = column(nullable=True, description="Upper end")
    n_different: int = column(
        ge=0, description="Metrics that differ from the model as it is (Holm, and for the number of cells)"
    )
    n_metrics: int = column(ge=0, description="Metrics that were looked at")
    best: bool = column(description="Whether no other of the model has less error and no more cost, as measured")
    outdated: str = column(
        description="Profiles that were edited since the cell was run, by commas: nothing here counts them"
    )
