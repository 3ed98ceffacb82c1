"""Goal space: raw values to `z` in `[0, 1]^d`, with what clipping cut off kept beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from schemas.digest import digest_json
from schemas.specs import BoundsSpec
from steer_core.tables.errors import SteerworksError

Floats = NDArray[np.float64]

#: Bumped when the meaning of a goal space changes.
VERSION = "1"


@dataclass(frozen=True)
class GoalSpace:
    """An ordered set of goals with bounds.

    Attributes:
        goals: goal names, the axes of z.
        scorer_ids: scorer and version of each goal.
        lower: raw values that map to 0, shape [d].
        upper: raw values that map to 1, shape [d].
    """

    goals: tuple[str, ...]
    scorer_ids: tuple[str, ...]
    lower: Floats
    upper: Floats

    def __post_init__(self) -> None:
        for goal, lower, upper in zip(self.goals, self.lower, self.upper, strict=True):
            if not (np.isfinite(lower) and np.isfinite(upper) and lower < upper):
                raise SteerworksError(
                    f"goal {goal!r} has bounds {lower} .. {upper}: they need a width. All texts of the corpus "
                    "score alike, "
                    "or almost; use a corpus that varies in this goal, set `bounds.fixed`, or leave the goal out"
                )

    @property
    def id(self) -> str:
        """Hash of goals, scorer versions and bounds."""
        bounds = [[float(low), float(high)] for low, high in zip(self.lower, self.upper, strict=True)]
        return digest_json([self.goals, self.scorer_ids, bounds])

    def locate(self, values: Floats) -> tuple[Floats, Floats]:
        """Raw values to the goal space.

        Args:
            values: raw values, shape [n, d]; NaN where undefined.

        Returns:
            z clipped to [0, 1] and the signed overshoot beyond it (0 inside), both [n, d], NaN where undefined.
        """
        z = (values - self.lower) / (self.upper - self.lower)
        clipped = np.clip(z, 0.0, 1.0)
        return clipped, z - clipped

    def matrix(self, values: pl.DataFrame, text_ids: pl.Series) -> Floats:
        """Raw values of texts as a matrix [n, d] in the order of `text_ids`; NaN where undefined or absent.

        Args:
            values: rows of `goal_values`.
            text_ids: texts wanted; repeats are fine.
        """
        wanted = pl.DataFrame({"text_id": text_ids})
        columns = []
        for scorer_id in self.scorer_ids:
            of_goal = values.filter(pl.col("scorer_id") == scorer_id).select("text_id", "value")
            joined = wanted.join(of_goal, on="text_id", how="left", maintain_order="left")
            columns.append(joined["value"].fill_null(float("nan")).to_numpy())
        return np.column_stack(columns) if columns else np.empty((len(wanted), 0))

    def to_table(self, n_texts: Mapping[str, int], fixed: Mapping[str, object]) -> pl.DataFrame:
        """Rows of `goal_space`."""
        return pl.DataFrame(
            {
                "goal_space_id": [self.id] * len(self.goals),
                "position": list(range(len(self.goals))),
                "goal": list(self.goals),
                "scorer_id": list(self.scorer_ids),
                "lower": self.lower.tolist(),
                "upper": self.upper.tolist(),
                "bounds": ["fixed" if g in fixed else "percentile" for g in self.goals],
                "n_texts": [int(n_texts.get(g, 0)) for g in self.goals],
            },
            schema_overrides={"position": pl.Int64, "n_texts": pl.Int64, "lower": pl.Float64, "upper": pl.Float64},
        )

    @classmethod
    def from_table(cls, table: pl.DataFrame) -> GoalSpace:
        """The goal space that rows of `goal_space` describe."""
        rows = table.sort("position")
        return cls(
            tuple(rows["goal"].to_list()),
            tuple(rows["scorer_id"].to_list()),
            rows["lower"].to_numpy().astype(np.float64),
            rows["upper"].to_numpy().astype(np.float64),
        )


def fit_goal_space(values: pl.DataFrame, scorer_ids: Mapping[str, str], bounds: BoundsSpec) -> pl.DataFrame:
    """Bounds from the middle of the corpus (linear percentiles over defined values), or as fixed by the user.

    Chang et al. (2025) take the middle 95 % of the seed texts: percentiles 2.5 and 97.5.

    Args:
        values: `goal_values` of the corpus.
        scorer_ids: goal -> scorer id, in the order of the axes.
        bounds: percentiles, and fixed bounds by goal.

    Returns:
        Rows of `goal_space`.

    Raises:
        SteerworksError: a goal is undefined on all texts, or its bounds have no width.
    """
    lower, upper, n_texts = [], [], {}
    for goal, scorer_id in scorer_ids.items():
        defined = values.filter((pl.col("scorer_id") == scorer_id) & pl.col("value").is_not_null())["value"].to_numpy()
        n_texts[goal] = len(defined)
        if goal in bounds.fixed:
            low, high = bounds.fixed[goal]
        elif not len(defined):
            raise SteerworksError(
                f"goal {goal!r} ({scorer_id}) is undefined on every text of the corpus, so it has no percentile "
                "bounds: "
                "the texts may be too short for it; set `bounds.fixed` or leave the goal out"
            )
        else:
            low, high = np.percentile(defined, [bounds.lower_percentile, bounds.upper_percentile])
        lower.append(float(low))
        upper.append(float(high))
    space = GoalSpace(tuple(scorer_ids), tuple(scorer_ids.values()), np.array(lower), np.array(upper))
    return space.to_table(n_texts, bounds.fixed)
