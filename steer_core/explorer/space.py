"""Goal space: two goals, and where texts went on them: as asked, and as they did."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from steer_core.explorer.index import Index
from steer_core.explorer.query import Query
from steer_core.explorer.state import State
from steer_core.tables.errors import ConfigError

Floats = NDArray[np.float32]
#: Cells along one axis of the grid that moves are averaged on.
GRID = 5
#: Requests that a mean arrow stands for at least.
FEWEST = 3
#: Single moves that are drawn.
MOST = 400


@dataclass(frozen=True)
class Flow:
    """Moves on two goals.

    Attributes:
        x: goal across.
        y: goal upward.
        n: samples with both ends known.
        unknown: samples of the state whose end is not known.
        single: some moves: `x0`, `y0`, `x1`, `y1` (got), `xt`, `yt` (asked; a goal that was not asked is to stay).
        mean: means on the grid of starts: the same columns and `n`.
        shares: mean length of the moves asked and got.
    """

    x: str
    y: str
    n: int
    unknown: int
    single: pl.DataFrame
    mean: pl.DataFrame
    shares: tuple[float, float]


def flow(index: Index, query: Query, state: State, x: str, y: str) -> Flow:
    """Where the samples of a state went on two goals.

    Every filter of the state holds for every arrow: asked and got are of the same samples.

    Raises:
        ConfigError: one goal twice, or one that is no axis.
    """
    asked = index.asked()
    for goal in (x, y):
        if goal not in asked.starts:
            raise ConfigError(f"{goal!r} is no goal of the space; it has {', '.join(asked.starts)}")
    if x == y:
        raise ConfigError("two goals are drawn against each other: choose another one")
    places = query.places(state)
    number = index.samples()["number"].to_numpy()[places]
    columns: dict[str, Floats] = {}
    for axis, goal in (("x", x), ("y", y)):
        start, delta = asked.starts[goal][number], asked.deltas[goal][number]
        columns |= {
            f"{axis}0": start,
            f"{axis}1": index.moves(goal)[places],
            f"{axis}t": start + np.nan_to_num(delta, nan=0.0),
        }
    rows = pl.DataFrame(columns).with_row_index("place")
    known = rows.filter(pl.all_horizontal(pl.col("x0", "x1", "y0", "y1").is_finite()))
    cells = [(pl.col(f"{a}0") * GRID).floor().clip(0, GRID - 1).cast(pl.Int64).alias(f"c{a}") for a in "xy"]
    means = [pl.col(c).mean() for c in columns]
    mean = known.with_columns(cells).group_by("cx", "cy").agg(*means, n=pl.len()).sort("cx", "cy")
    step = max(1, -(-known.height // MOST))
    lengths = tuple(
        float(
            known.select(
                ((pl.col(f"x{e}") - pl.col("x0")) ** 2 + (pl.col(f"y{e}") - pl.col("y0")) ** 2).sqrt().mean()
            ).item()
            or 0.0
        )
        for e in ("t", "1")
    )
    return Flow(
        x, y, known.height, rows.height - known.height, known.gather_every(step), mean.filter(pl.col("n") >= FEWEST),
        (lengths[0], lengths[1]),
    )  # fmt: skip
