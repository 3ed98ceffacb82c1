"""Figures of a cell, each with an interval clustered by source text.

1. `complete` leaves failures out; `worst` has each failure at the worst value that its target allows.
2. Rates (`failed`, `copied`, and one a kind of failure) are shares of all requests; they stand under `complete`, with
   the statistic `mean`.
3. Goal by goal: `error` is |z* - zh| where the goal was asked for, `drift` is |zh - z0| where it was not, `move_ratio`
   the move made per unit asked (least squares within source texts; statistic `mean`: 1 is perfect, 0 what ignores the
   request, 0 exactly where all requests on a text get one answer), `concordance` the share of pairs of requests on one
   text that ended in the order that was asked for (statistic `mean`; .5 is what ignores the request).
4. Rates never come with an interval without width: see `statistics.clustered_share`.
5. Every figure starts from the same seed: figures do not depend on which others are asked for, and two cells with the
   same texts are resampled alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import polars as pl

from schemas.evaluation import SteerabilitySummary
from steer_core.evaluation.columns import to_array
from steer_core.statistics import Estimate, clustered_estimates, clustered_share, concordance, slope_within
from steer_core.statistics.bootstrap import Statistic
from steer_core.tables import SteerworksError

#: Name of the figures that are not of one goal.
OVERALL = "overall"
STATISTICS: tuple[Statistic, ...] = ("mean", "median", "iqr")
#: Columns of `steerability` that are summarised over complete cases.
MEASURES = (
    "error",
    "miscalibration",
    "orthogonality",
    "error_binned",
    "miscalibration_binned",
    "orthogonality_binned",
    "sensitivity",
    "directionality",
    "score",
    "error_permuted",
    "meaning_content",
    "meaning_chrf",
    "meaning_embedding",
    "requested",
    "moved",
)
#: Measures that have a worst-case column, `<measure>_worst`.
WORST = ("error", "miscalibration", "orthogonality")
#: Kinds of failure whose shares are reported, beside `failed` (any of them) and `copied`.
FAILURES = ("empty", "truncated", "overlong", "unparsable", "refused", "filtered", "undefined")


def summarise(steerability: pl.DataFrame, movements: pl.DataFrame, *, draws: int, seed: int) -> pl.DataFrame:
    """Summaries of every probe, overall and goal by goal.

    Args:
        steerability: rows of `schemas.Steerability`.
        movements: rows of `schemas.GoalMovements` for the same requests.
        draws: bootstrap resamples of each interval.
        seed: seed of the resamples.

    Returns:
        Rows of `schemas.SteerabilitySummary`, probes and goals in the order of the input.

    Raises:
        SteerworksError: a movement belongs to no scored request.
    """
    orphans = movements.join(steerability, on=["arm_id", "request_id"], how="anti")
    if len(orphans):
        raise SteerworksError(
            f"{len(orphans)} goal movements belong to requests without a score (first: {orphans['request_id'][0]}): "
            "pass both tables of one evaluation"
        )
    joined = movements.join(
        steerability.select("arm_id", "request_id", "text_id", "failure"),
        on=["arm_id", "request_id"],
        how="left",
        maintain_order="left",
    )
    rows = []
    for (arm_id, probe), of_probe in steerability.group_by(["arm_id", "probe"], maintain_order=True):
        moved = joined.filter(pl.col("probe") == probe, pl.col("arm_id") == arm_id)
        figures = [*_overall(of_probe, draws, seed), *_goal_by_goal(moved, draws, seed)]
        spaces = of_probe["goal_space_id"].unique().to_list()
        if len(spaces) != 1:
            raise SteerworksError(
                f"probe {probe!r} has scores of {len(spaces)} goal spaces ({', '.join(sorted(spaces))}): "
                "results never mix goal spaces; summarise each by itself"
            )
        rows += [{"arm_id": arm_id, "probe": probe, "goal_space_id": spaces[0], **figure} for figure in figures]
    return pl.DataFrame(rows, schema=SteerabilitySummary.dtypes())


def _overall(scores: pl.DataFrame, draws: int, seed: int) -> Iterator[dict[str, object]]:
    complete = scores.filter(pl.col("failure").is_null())
    for measure in MEASURES:
        found = _estimates(complete, complete[measure], STATISTICS, draws, seed)
        yield from _figures(measure, OVERALL, "complete", found)
    for measure in WORST:
        found = _estimates(scores, scores[f"{measure}_worst"], STATISTICS, draws, seed)
        yield from _figures(measure, OVERALL, "worst", found)
    failure = scores["failure"].fill_null("")
    rates = {"failed": failure != "", "copied": scores["copied"], **{kind: failure == kind for kind in FAILURES}}
    for name, happened in rates.items():
        share = clustered_share(to_array(happened), scores["text_id"].to_numpy())
        yield from _figures(name, OVERALL, "complete", {"mean": share})


def _goal_by_goal(movements: pl.DataFrame, draws: int, seed: int) -> Iterator[dict[str, object]]:
    complete = movements.filter(pl.col("failure").is_null())
    for goal in movements["goal"].unique(maintain_order=True).to_list():
        here = complete.filter(pl.col("goal") == goal)
        asked, left_alone = here.filter(pl.col("z_star").is_not_null()), here.filter(pl.col("z_star").is_null())
        error = (asked["z_star"] - asked["z_hat"]).abs()
        drift = (left_alone["z_hat"] - left_alone["z0"]).abs()
        yield from _figures("error", goal, "complete", _estimates(asked, error, STATISTICS, draws, seed))
        yield from _figures("drift", goal, "complete", _estimates(left_alone, drift, STATISTICS, draws, seed))
        texts = asked["text_id"].to_numpy()
        slope = slope_within(to_array(asked["z_star"] - asked["z0"]), to_array(asked["z_hat"] - asked["z0"]), texts)
        ratio = Estimate(slope.slope, slope.low, slope.high, slope.n, slope.n_clusters)
        yield from _figures("move_ratio", goal, "complete", {"mean": ratio})
        kept = concordance(to_array(asked["z_star"]), to_array(asked["z_hat"]), texts)
        yield from _figures("concordance", goal, "complete", {"mean": kept})


def _estimates(
    rows: pl.DataFrame, measure: pl.Series, statistics: tuple[Statistic, ...], draws: int, seed: int
) -> dict[Statistic, Estimate]:
    clusters = rows["text_id"].to_numpy()
    return clustered_estimates(to_array(measure), clusters, statistics, draws=draws, rng=np.random.default_rng(seed))


def _figures(
    measure: str, goal: str, reading: str, estimates: Mapping[Statistic, Estimate]
) -> Iterator[dict[str, object]]:
    for statistic, e in estimates.items():
        yield {
            "measure": measure,
            "goal": goal,
            "reading": reading,
            "statistic": statistic,
            "value": e.value,
            "low": e.low,
            "high": e.high,
            "n": e.n,
            "n_clusters": e.n_clusters,
        }
