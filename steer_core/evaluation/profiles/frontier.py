"""Effect against side effect, over all methods of a bench: what a setting gains on the probe, and what it costs.

The effect is the steering error of the probe, the cost what is lost of one capability in the cell's profile, in the
very same setting. A method that is asked for several requests has a point for each: its error is the same, its
cost is not.
Which points are best is as measured: nothing is said of how sure that is but by the intervals.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from schemas.profiles import PLAIN, Frontier
from steer_core.evaluation.profiles.changes import LEVEL

#: Bumped when the same tables give another frontier.
VERSION = "2"


def frontier_of(
    errors: pl.DataFrame,
    arms: pl.DataFrame,
    changes: pl.DataFrame,
    *,
    profile: str = "",
    metric: str = "",
    better: int = 1,
    digests: Mapping[str, str] | None = None,
) -> pl.DataFrame:
    """Points of all cells.

    Args:
        errors: rows of `steerability_summary` with columns `model` and `method`.
        arms: rows of `profile_arms` with these.
        changes: rows of `profile_changes` with these.
        profile: whose capability the cost is; empty where there is none.
        metric: the capability.
        better: 1 where more of it is better, -1 where less is.
        digests: profile -> what it is now (`kind.digests`): what a cell says of an earlier one counts for nothing, and
            is named. None: whatever a cell says is taken.

    Returns:
        Rows of `frontier`, by probe, model, error.
    """
    error = errors.filter(
        pl.col("measure") == "error",
        pl.col("goal") == "overall",
        pl.col("reading") == "worst",
        pl.col("statistic") == "mean",
    ).select("model", "method", "probe", probe_arm="arm_id", error="value", error_low="low", error_high="high")
    settings = arms.filter(pl.col("probe_arm").is_not_null()).select(
        "model", "method", "arm_id", "label", "probe_arm", headline=pl.col("role") == "request"
    )
    cell = ["model", "method", "arm_id"]
    outdated = _outdated(changes, digests)
    current = changes.join(outdated, on=["model", "method", "profile"], how="anti")
    lost = [(-better * pl.col(c)).alias(n) for n, c in _ends(better).items()]
    cost = current.filter(pl.col("profile") == profile, pl.col("metric") == metric).select(*cell, *lost)
    # what is called different on one page of several cells is corrected for how many they are, too
    n_cells = changes.select("model", "method").n_unique()
    current = current.with_columns(different=(pl.col("p_adjusted") <= LEVEL / max(n_cells, 1)).fill_null(False))
    counts = current.group_by(cell).agg(
        n_different=pl.col("different").sum().cast(pl.Int64),
        n_metrics=pl.col("p_adjusted").is_not_null().sum().cast(pl.Int64),
    )
    points = (
        settings.join(error, on=["model", "method", "probe_arm"], how="inner", maintain_order="left")
        .join(cost, on=cell, how="left", maintain_order="left")
        .join(counts, on=cell, how="left", maintain_order="left")
        .with_columns(pl.col("n_different", "n_metrics").fill_null(0))
        .with_columns(profile=pl.lit(profile), metric=pl.lit(metric))
    )
    named = outdated.sort("profile").group_by("model", "method").agg(outdated=pl.col("profile").str.join(", "))
    rows = pl.concat([_nothing_asked(errors, arms, profile, metric), points.select(_COLUMNS)])
    rows = rows.join(named, on=["model", "method"], how="left", maintain_order="left")
    rows = rows.with_columns(pl.col("outdated").fill_null(""))
    return _with_best(rows).select(Frontier.names()).sort("probe", "model", "error", "method", nulls_last=True)


_COLUMNS = [n for n in Frontier.names() if n not in ("best", "outdated")]


def _outdated(changes: pl.DataFrame, digests: Mapping[str, str] | None) -> pl.DataFrame:
    """Profiles of each cell that are no longer what it was asked: `model`, `method`, `profile`."""
    keys = ["model", "method", "profile"]
    asked = changes.select(*keys, "asked").unique()
    if digests is None:
        return asked.select(keys).clear()
    now = pl.DataFrame({"profile": list(digests), "now": list(digests.values())}, schema_overrides={"now": pl.String})
    wanted = asked.select("model", "method").unique().join(now.select("profile"), how="cross")
    # edited since, taken out of the bench, or new to it
    both = asked.join(wanted, on=keys, how="full", coalesce=True).join(now, on="profile", how="left")
    return both.filter(pl.col("asked").ne_missing(pl.col("now"))).select(keys).unique()


def _ends(better: int) -> Mapping[str, str]:
    """Ends of a loss from those of a difference: where more is better, they change places."""
    low, high = ("high", "low") if better > 0 else ("low", "high")
    return {"cost": "difference", "cost_low": low, "cost_high": high}


def _nothing_asked(errors: pl.DataFrame, arms: pl.DataFrame, profile: str, metric: str) -> pl.DataFrame:
    """The plain rewrite of each model, where it was profiled: it costs nothing by definition."""
    plain = arms.filter(pl.col("arm_id") == PLAIN).select("model", "method", "label")
    others = arms.filter(pl.col("arm_id") != PLAIN).select("model", "method").unique()
    only = plain.join(others, on=["model", "method"], how="anti")
    error = errors.filter(
        pl.col("measure") == "error", pl.col("goal") == "overall", pl.col("reading") == "worst",
        pl.col("statistic") == "mean", pl.col("arm_id") == "headline",
    )  # fmt: skip
    return (
        error.join(only, on=["model", "method"], how="inner", maintain_order="left")
        .select(
            "model", "method", "probe", "label", error="value", error_low="low", error_high="high",
            arm_id=pl.lit(PLAIN), headline=pl.lit(True), profile=pl.lit(profile), metric=pl.lit(metric),
            cost=pl.lit(0.0), cost_low=pl.lit(0.0), cost_high=pl.lit(0.0),
            n_different=pl.lit(0, pl.Int64), n_metrics=pl.lit(0, pl.Int64),
        )
        .select(_COLUMNS)
    )  # fmt: skip


def _with_best(points: pl.DataFrame) -> pl.DataFrame:
    """Marks points that no other of their model and probe beats on one side without losing on the other."""
    marks = []
    for row in points.iter_rows(named=True):
        if row["error"] is None or row["cost"] is None:
            marks.append(False)
            continue
        # one setting that is asked for two things is no rival of itself: nobody chooses the request
        itself = (pl.col("method") == row["method"]) & (pl.col("error") == row["error"])
        rivals = points.filter(pl.col("model") == row["model"], pl.col("probe") == row["probe"], ~itself)
        beaten = rivals.filter(
            pl.col("error") <= row["error"],
            pl.col("cost") <= row["cost"],
            (pl.col("error") < row["error"]) | (pl.col("cost") < row["cost"]),
        )
        marks.append(not beaten.height)
    return points.with_columns(best=pl.Series(marks, dtype=pl.Boolean))
