"""Transport to a class: T(h) = M (h - center) + mean of the class, by the sign of the coefficient.

M is `map_positive` for c > 0 and `map_negative` for c < 0; a map multiplies column vectors. |c| below 1 goes that
share of the way, h + |c| (T(h) - h); beyond 1 it is 1. Gaussian optimal transport has maps
S^-1/2 (S^1/2 S' S^1/2)^1/2 S^-1/2 (Knott and Smith 1984). With a tensor `turn` moves are turned by that
orthogonal matrix: the random control.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from steer_core.steering.operators import Draw, Numbers

TENSORS = {
    "map_positive": "width",
    "map_negative": "width",
    "center": 1,
    "mean_positive": 1,
    "mean_negative": 1,
}
OPTIONAL = {"turn": "width"}
SCALARS = ()
UNITS = frozenset({"raw", "kl"})
IDLE_AT_ZERO = True


def apply(hidden: Tensor, tensors: Mapping[str, Tensor], scalars: Mapping[str, float], coefficient: Tensor) -> Tensor:
    """Hidden [rows, tokens, width] moved towards the class that the coefficient's sign names; 0 moves nothing."""
    centered = hidden - tensors["center"]
    positive = centered @ tensors["map_positive"].T + tensors["mean_positive"]
    negative = centered @ tensors["map_negative"].T + tensors["mean_negative"]
    target = positive.where(coefficient > 0, negative)
    move = target - hidden
    if "turn" in tensors:
        move = move @ tensors["turn"].T
    return hidden + coefficient.abs().clamp_max(1.0) * move


def random_control(tensors: Numbers, draw: Draw) -> Numbers:
    """The same moves, turned by a random orthogonal matrix: every activation moves as far, and elsewhere.

    The matrix is width x width, which takes seconds for a width of thousands.
    """
    return {**tensors, "turn": draw(next(iter(tensors.values())).shape[1])}
