"""A ruler: texts to positions in goal space."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl

from schemas.digest import digest_text
from steer_core.goals.space import GoalSpace


def ruler_by(
    measured: Callable[[pl.DataFrame], pl.DataFrame], space: GoalSpace
) -> Callable[[Sequence[str]], list[dict[str, float | None]]]:
    """The ruler of a goal space.

    Args:
        measured: rows (`text_id`, `text`), each text once, to rows of `goal_values`.
        space: the goal space.

    Returns:
        From texts to their positions, goal by goal; None where one is undefined.
    """

    def ruler(texts: Sequence[str]) -> list[dict[str, float | None]]:
        frame = pl.DataFrame(
            {"text_id": [digest_text(t) for t in texts], "text": list(texts)},
            # no texts at all still have a type
            schema={"text_id": pl.String, "text": pl.String},
        )
        values = measured(frame.unique("text_id", maintain_order=True))
        z, _ = space.locate(space.matrix(values, frame["text_id"]))
        return [{g: (v if v == v else None) for g, v in zip(space.goals, row, strict=True)} for row in z.tolist()]

    return ruler
