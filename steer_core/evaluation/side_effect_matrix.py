"""Side effects: what else moves when a goal is asked for.

Entry (i, j) is the move of goal j per unit asked of goal i, least squares within source texts, over the complete cases
in which i was asked for. Ones on the diagonal and zeros elsewhere are perfect; whatever ignores requests has zeros.
Where several goals are asked for at once their targets are drawn apart, given the start, so what the others do to an
entry cancels on average; it widens the interval.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from schemas.evaluation import SideEffects
from steer_core.evaluation.columns import to_array
from steer_core.statistics import slope_within
from steer_core.tables import SteerworksError

Floats = NDArray[np.float64]


def side_effects(movements: pl.DataFrame, steerability: pl.DataFrame) -> pl.DataFrame:
    """The matrix of side effects of every probe.

    Args:
        movements: rows of `schemas.GoalMovements`.
        steerability: rows of `schemas.Steerability` for the same requests: they name the source texts, the clusters.

    Returns:
        Rows of `schemas.SideEffects`: every pair of goals, in the order of the goals.

    Raises:
        SteerworksError: a movement belongs to no scored request.
    """
    rows = []
    clusters = dict(zip(steerability["request_id"], steerability["text_id"], strict=True))
    for (arm_id, probe), of_probe in movements.group_by(["arm_id", "probe"], maintain_order=True):
        goals = of_probe["goal"].unique(maintain_order=True).to_list()
        ids, asked, moved = _matrices(of_probe, goals)
        unknown = [i for i in ids if i not in clusters]
        if unknown:
            raise SteerworksError(
                f"{len(unknown)} requests of probe {probe!r} have movements but no score (first: {unknown[0]}): "
                "pass both tables of one evaluation"
            )
        texts = np.array([clusters[i] for i in ids])
        for i, requested in enumerate(goals):
            for j, observed in enumerate(goals):
                found = slope_within(asked[:, i], moved[:, j], texts)
                rows.append(
                    {
                        "arm_id": arm_id,
                        "probe": probe,
                        "requested_goal": requested,
                        "observed_goal": observed,
                        "slope": found.slope,
                        "low": found.low,
                        "high": found.high,
                        "correlation": found.correlation,
                        "n": found.n,
                    }
                )
    return pl.DataFrame(rows, schema=SideEffects.dtypes())


def _matrices(movements: pl.DataFrame, goals: list[str]) -> tuple[list[str], Floats, Floats]:
    """Request ids, requested and made moves [n, d] of one probe; NaN where not asked for, or undefined."""
    moves = movements.select(
        "request_id", "goal", asked=pl.col("z_star") - pl.col("z0"), moved=pl.col("z_hat") - pl.col("z0")
    )
    wide = moves.pivot("goal", index="request_id", values=["asked", "moved"], maintain_order=True)
    asked = np.column_stack([to_array(wide[f"asked_{goal}"]) for goal in goals])
    moved = np.column_stack([to_array(wide[f"moved_{goal}"]) for goal in goals])
    return wide["request_id"].to_list(), asked, moved
