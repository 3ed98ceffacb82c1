"""Profiles: what texts are like apart from what was asked, metric by metric, and two of them side by side."""

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
