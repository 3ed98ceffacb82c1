"""Which strength gives a move: the fitted curve, read backwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import polars as pl

from schemas.vector_part import Unit
from steer_core.steering.operators import load_operator
from steer_core.steering.vector import SteeringVector
from steer_core.tables.errors import SteerworksError

#: Units whose 0 is coefficient 0.
ZERO_UNITS: tuple[Unit, ...] = ("raw", "residual_fraction", "kl")


def is_anchored(vectors: Sequence[SteeringVector], unit: Unit) -> bool:
    """Whether strength 0 is off: not for an edit that sets a concept to a place, whatever its coefficient."""
    return unit in ZERO_UNITS and all(load_operator(v.operator).idle_at_zero for v in vectors)


@dataclass(frozen=True)
class DoseCurve:
    """The monotone fit of one goal.

    Attributes:
        strengths: usable strengths, ascending; 0 among them where it is off.
        moves: fitted move at each; never descending, or never ascending where the vector moves its goal the other way.
        anchored: whether strength 0 is off.
    """

    strengths: tuple[float, ...]
    moves: tuple[float, ...]
    anchored: bool = True

    @classmethod
    def of(cls, table: pl.DataFrame, goal: str, anchored: bool) -> DoseCurve:
        """The curve of a goal in rows of `dose_response`; empty (or off alone) where no strength was usable.

        Raises:
            SteerworksError: the table has no rows of that goal.
        """
        own = table.filter((pl.col("goal") == goal) & (pl.col("observed_goal") == goal))
        if not own.height:
            raise SteerworksError(f"no dose-response of goal {goal!r}: materialize `dose_response` first")
        used = own.filter(pl.col("usable") & pl.col("fitted").is_not_null() & pl.col("strength").is_not_null())
        points = dict(used.select("strength", "fitted").iter_rows())
        if anchored:
            points[0.0] = 0.0
        ordered = sorted(points.items())
        return cls(tuple(s for s, _ in ordered), tuple(m for _, m in ordered), anchored)

    def share(self, strength: float) -> float:
        """Share of the largest usable strength on that side; 0 where strength 0 is no point of the curve."""
        side = [abs(s) for s in self.strengths if s * strength > 0]
        return abs(strength) / max(side) if self.anchored and side else 0.0

    def strength_for(self, move: float) -> float | None:
        """The smallest strength whose fitted move is the one asked for, linear between two that were tried.

        Where none reaches it, the nearest there is; None (off) where that is no better than doing nothing.
        """
        if not self.strengths or move == 0.0:
            return None
        rising = self.moves[-1] >= self.moves[0]
        points = sorted(zip(self.strengths, self.moves, strict=True), reverse=not rising)
        if self.anchored:
            sign = 1.0 if move > 0 else -1.0
            points = sorted(((s, m) for s, m in points if (s if rising else -s) * sign >= 0), key=lambda p: abs(p[0]))
        found = _first_reaching(points, move)
        return None if abs(found[1] - move) >= abs(move) else found[0]


def _first_reaching(points: Sequence[tuple[float, float]], move: float) -> tuple[float, float]:
    """Strength and move of the first point on the line through these whose move is nearest to the one asked for."""
    best = min(points, key=lambda p: abs(p[1] - move))
    for (s0, m0), (s1, m1) in pairwise(points):
        if min(m0, m1) <= move <= max(m0, m1) and m0 != m1:
            return s0 + (move - m0) / (m1 - m0) * (s1 - s0), move
    return best
