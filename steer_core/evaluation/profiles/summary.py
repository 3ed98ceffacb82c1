"""Profiles in figures: means and medians with intervals clustered by item, and two profiles on the same items.

Whose answer a text is stands in `answers`, columns `item_id` and `text_id`, one row an answer: several samples of an
item share its cluster, and one text may answer several items. A missing value is left out and counted, never 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import polars as pl

from schemas.profiles import ProfileDifferences, ProfileSummary
from steer_core.evaluation.columns import Floats, to_array
from steer_core.statistics import clustered_estimates, exchange_p, holm, paired_contrast
from steer_core.statistics.bootstrap import Statistic
from steer_core.tables.errors import SteerworksError

STATISTICS: tuple[Statistic, ...] = ("mean", "median")
#: Random exchanges behind each p.
DRAWS = 10_000


def summarise_profile(
    profile: pl.DataFrame, answers: pl.DataFrame, *, draws: int = 1000, seed: int = 0
) -> pl.DataFrame:
    """Mean and median of every metric over the answers.

    Args:
        profile: rows of `text_profiles`.
        answers: columns `item_id` and `text_id`, one row an answer.
        draws: bootstrap resamples behind the intervals of medians.
        seed: seed of the resamples; every metric starts from it.

    Returns:
        Rows of contract `profile_summary`, two a metric, in the order of the profile.

    Raises:
        SteerworksError: an answer's text is not in the profile, or lacks a metric.
    """
    rows = []
    for metric, part in _by_metric(profile, answers).items():
        found = clustered_estimates(
            to_array(part["value"]),
            part["item_id"].to_numpy(),
            STATISTICS,
            draws=draws,
            rng=np.random.default_rng(seed),
        )
        missing = _missing(part)
        rows += [
            (metric, name, one.value, one.low, one.high, missing, one.n, one.n_clusters) for name, one in found.items()
        ]
    return pl.DataFrame(rows, schema=ProfileSummary.dtypes(), orient="row")


def compare_profiles(
    profile: pl.DataFrame,
    answers: pl.DataFrame,
    other: pl.DataFrame,
    other_answers: pl.DataFrame,
    *,
    level: float = 0.05,
    draws: int = DRAWS,
    seed: int = 0,
) -> pl.DataFrame:
    """Paired difference of every metric between two profiles on the same items.

    Samples of an item are averaged first; an item is a pair where both sides have a value. p exchanges the two sides
    within items, so it holds for flags and ties as for lengths. It is corrected by Holm's method, not by Benjamini and
    Hochberg's: a page says of single metrics that they differ, so what has to be rare is one wrong sentence among all,
    and metrics hang together in both directions (a harder text has a lower ease and a higher grade), which Holm
    allows whatever the dependence.

    Args:
        profile: rows of `text_profiles` of the one.
        answers: columns `item_id` and `text_id` of the one, one row an answer.
        other: rows of `text_profiles` of the other.
        other_answers: its answers.
        level: chance of any wrong `different` where the two are equal, in (0, 1).
        draws: random exchanges behind p; fewer than metrics / level can call no single metric different.
        seed: seed of the exchanges.

    Returns:
        Rows of contract `profile_differences`: one a metric, in the order of the first. A metric without a pair
        has null figures and is not different.

    Raises:
        SteerworksError: the two have no item in common, other metrics, an answer's text is not in its profile, or the
            draws cannot reach the level.
    """
    if not 0.0 < level < 1.0:
        raise SteerworksError(f"level = {level}: the chance of a false finding lies between 0 and 1, e.g. 0.05")
    ones, others = _by_metric(profile, answers), _by_metric(other, other_answers)
    if odd := sorted(set(ones) ^ set(others)):
        raise SteerworksError(f"only one of the two profiles has the metric {odd[0]!r}: profile both with the same")
    if (least := math.ceil(len(ones) / level)) > draws:
        raise SteerworksError(f"{len(ones)} metrics need at least {least} draws at level {level}; there are {draws}")
    items = sorted(set(answers["item_id"]) & set(other_answers["item_id"]))
    if not items:
        raise SteerworksError("the two profiles have no item in common: nothing can be paired")
    one = np.column_stack([_of_items(part, items) for part in ones.values()])  # [items, metrics]
    two = np.column_stack([_of_items(others[metric], items) for metric in ones])
    p = exchange_p(one - two, draws=draws, rng=np.random.default_rng(seed))
    adjusted = holm(p)
    clusters = np.arange(len(items))
    rows = []
    for i, metric in enumerate(ones):
        found = paired_contrast(one[:, i], two[:, i], clusters)
        rows.append(
            (
                *(metric, found.value, found.control_value, found.difference, found.low, found.high),
                *(_or_none(p[i]), _or_none(adjusted[i]), bool(adjusted[i] <= level)),
                *(found.n, _missing(ones[metric]), _missing(others[metric])),
            )
        )
    return pl.DataFrame(rows, schema=ProfileDifferences.dtypes(), orient="row")


def _by_metric(profile: pl.DataFrame, answers: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Metric -> value of every answer, columns `item_id` and `value`."""
    if strangers := sorted(set(answers["text_id"]) - set(profile["text_id"])):
        raise SteerworksError(f"{len(strangers)} texts of the answers are not in the profile (first: {strangers[0]})")
    asked = answers.select("item_id", "text_id")
    found: dict[str, pl.DataFrame] = {}
    for (metric,), part in profile.partition_by("metric", as_dict=True, maintain_order=True).items():
        values = asked.join(part.select("text_id", "value"), on="text_id", how="inner", maintain_order="left")
        if values.height != answers.height:
            raise SteerworksError(
                f"metric {metric!r} has {values.height} rows for {answers.height} answers: every text needs one"
            )
        found[str(metric)] = values
    return found


def _of_items(part: pl.DataFrame, items: Sequence[str]) -> Floats:
    """Mean of each item's values, shape [items]; NaN where it has none."""
    means = part.group_by("item_id").agg(pl.col("value").mean())
    order = pl.DataFrame({"item_id": items}, schema={"item_id": part.schema["item_id"]})
    return to_array(order.join(means, on="item_id", how="left", maintain_order="left")["value"])


def _missing(part: pl.DataFrame) -> float:
    return part["value"].null_count() / part.height if part.height else 0.0


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
