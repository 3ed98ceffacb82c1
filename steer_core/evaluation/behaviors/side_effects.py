"""What moves although nobody asked: goals of the goal space, other behaviors, and the verdicts as measures.

* `goal:<name>`: position z of the answer on a goal of the bench.
* `judged`: the verdict on the swept behavior; `other:<behavior>`: the verdict on another one (entanglement), mapped
  onto the swept behavior's scale, so that the two can be compared.
* What a neutral set loses is the measure `accuracy` of the items in group `neutral` (see `as_items.choice_measures`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from steer_core.evaluation.arms import Asked
from steer_core.evaluation.arms.answers import Written
from steer_core.evaluation.arms.measures import score_rows, text_scores
from steer_core.generation.run import Ruler

#: Measure of the verdict on the swept behavior, and what starts the measure of another's.
JUDGED, OTHER, GOAL = "judged", "other:", "goal:"


def goal_scores(written: Written, asked: Sequence[Asked], ruler: Ruler) -> pl.DataFrame:
    """Positions of every answer in goal space, as measures `goal:<name>`; each distinct text is measured once.

    Args:
        written: what the sweep wrote.
        asked: items in their arms; answers of others are left aside.
        ruler: measures texts.

    Returns:
        Rows of `arm_scores`; null where a goal is undefined for a text, or there is no answer.
    """

    def positions(texts: Sequence[str]) -> list[dict[str, float | None]]:
        return [{f"{GOAL}{goal}": value for goal, value in z.items()} for z in ruler(texts)]

    return text_scores(written, asked, positions)


def judged_scores(
    answers: pl.DataFrame,
    asked: Sequence[Asked],
    judgements: pl.DataFrame,
    *,
    judge_id: str,
    measure: str = JUDGED,
    scale: tuple[float, float] | None = None,
    onto: tuple[float, float] | None = None,
) -> pl.DataFrame:
    """Verdicts of one judge as a measure: the mean over its repeats.

    Args:
        answers: rows of `arm_answers`; those to other arms and items are left aside.
        asked: items in their arms.
        judgements: rows of `judgements`, of any judges.
        judge_id: whose verdicts.
        measure: `judged`, or `other:<behavior>` for the verdict on another behavior.
        scale: ends of the judge's scale; with `onto`, verdicts are mapped from the one to the other.
        onto: ends of the scale that is reported on.

    Returns:
        Rows of `arm_scores`; null where no repeat was parsed or there is no answer, and where it was not judged at all.

    Raises:
        ValueError: only one of the two scales is given.
    """
    if (scale is None) != (onto is None):
        raise ValueError("give both scales to map verdicts from one to the other, or neither")
    verdicts = (
        judgements.filter(pl.col("judge_id") == judge_id).group_by("response_id", "item_id").agg(pl.col("value").mean())
    )
    places = pl.DataFrame(
        [(one.arm.arm_id, one.item.item_id, one.item.group) for one in asked],
        schema={"arm_id": pl.String, "item_id": pl.String, "group": pl.String},
        orient="row",
    )
    found = answers.join(places, on=["arm_id", "item_id"], how="inner", maintain_order="left").join(
        verdicts, on=["response_id", "item_id"], how="left", maintain_order="left"
    )
    value = pl.col("value")
    if scale is not None and onto is not None:
        value = onto[0] + (value - scale[0]) / (scale[1] - scale[0]) * (onto[1] - onto[0])
    rows = found.select(
        "arm_id", "item_id", "sample_index", "group", measure=pl.lit(measure), value=value.cast(pl.Float64)
    )
    return score_rows([]).vstack(rows)


def selectivity(effect: float, others: Sequence[float]) -> float | None:
    """Share of all that moves which is the behavior itself, in [0, 1]: |e| / (|e| + rms of the other effects).

    1: nothing else moves; .5: the others move as far as the behavior. All effects on one scale.

    Args:
        effect: from one end of the strengths to the other, on the behavior itself.
        others: the same on each other behavior.

    Returns:
        None where nothing moves, or there is no other behavior.
    """
    if not others:
        return None
    rest = float(np.sqrt(np.mean(np.square(others))))
    total = abs(effect) + rest
    return abs(effect) / total if total > 0.0 else None
