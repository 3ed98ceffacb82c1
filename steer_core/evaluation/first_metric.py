"""The table of the first metric (Chang et al. 2024): sensitivity, directionality and score, mean and spread over rows.

Published as mean +- standard deviation over the requests of a probe, all requests alike. A row without a defined value
(an answer that failed, a move of nothing) is left out and counted. For intervals, which the spread over rows is none
of, see `steer_core.evaluation.summary`.
"""

from __future__ import annotations

import polars as pl

from steer_core.tables.errors import SteerworksError

#: Columns of `steerability` that the first metric has, in the order of the table.
FIRST_METRIC = ("sensitivity", "directionality", "score")
#: Columns of the table.
COLUMNS = {
    "arm_id": pl.String,
    "probe": pl.String,
    "measure": pl.String,
    "mean": pl.Float64,
    "sd": pl.Float64,
    "n": pl.Int64,
    "n_left_out": pl.Int64,
}


def first_metric_table(steerability: pl.DataFrame) -> pl.DataFrame:
    """The published table of 2024, from the scores of requests.

    Args:
        steerability: rows of `schemas.Steerability`, of one goal space.

    Returns:
        Columns `COLUMNS`: one row an arm, probe and measure, in the order of the input. `sd` is that of the population
        (ddof 0); both are null where no row is defined.

    Raises:
        SteerworksError: columns are missing, or the rows are of several goal spaces.
    """
    needed = ("arm_id", "probe", "goal_space_id", *FIRST_METRIC)
    if lacking := [c for c in needed if c not in steerability.columns]:
        raise SteerworksError(f"scores without {', '.join(lacking)}: pass rows of the table `steerability`")
    spaces = steerability["goal_space_id"].unique().to_list()
    if len(spaces) > 1:
        raise SteerworksError(
            f"scores of {len(spaces)} goal spaces ({', '.join(sorted(spaces))}): results never compare across goal "
            "spaces; make a table of each"
        )
    long = steerability.select("arm_id", "probe", *FIRST_METRIC).unpivot(
        FIRST_METRIC, index=["arm_id", "probe"], variable_name="measure"
    )
    # in a table of floats NaN means what null does
    value = pl.col("value").fill_nan(None)
    return (
        long.group_by("arm_id", "probe", "measure", maintain_order=True)
        .agg(
            mean=value.mean(),
            sd=value.std(ddof=0),
            n=value.count().cast(pl.Int64),
            n_left_out=value.null_count().cast(pl.Int64),
        )
        .select(pl.col(c).cast(kind) for c, kind in COLUMNS.items())
    )
