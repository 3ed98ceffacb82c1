"""Transport of the tokens that are of the other class: each token's class is told by linear discriminant analysis.

A token is positive where lda . h > `lda_threshold`. With c > 0 negative tokens move,
T(h) = map_to_positive (h - mean_negative) + mean_positive; with c < 0 positive ones move the other way. Tokens that are
of the target class are left alone. |c| below 1 goes that share of the way; beyond 1 it is 1.
With a tensor `turn` moves are turned by that orthogonal matrix: the random control.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from steer_core.steering.operators import Draw, Numbers

TENSORS = {
    "lda": 1,
    "map_to_positive": "width",
    "map_to_negative": "width",
    "mean_positive": 1,
    "mean_negative": 1,
}
OPTIONAL = {"turn": "width"}
SCALARS = ("lda_threshold",)
UNITS = frozenset({"raw", "kl"})
IDLE_AT_ZERO = True


def apply(hidden: Tensor, tensors: Mapping[str, Tensor], scalars: Mapping[str, float], coefficient: Tensor) -> Tensor:
    """Hidden [rows, tokens, width] with the tokens of the other class moved; coefficient 0 moves nothing."""
    is_positive = hidden @ tensors["lda"].T > scalars["lda_threshold"]  # [rows, tokens, 1]
    to_positive = (hidden - tensors["mean_negative"]) @ tensors["map_to_positive"].T + tensors["mean_positive"]
    to_negative = (hidden - tensors["mean_positive"]) @ tensors["map_to_negative"].T + tensors["mean_negative"]
    target = to_positive.where(coefficient > 0, to_negative)
    move = target - hidden
    if "turn" in tensors:
        move = move @ tensors["turn"].T
    moved = hidden + coefficient.abs().clamp_max(1.0) * move
    return moved.where(is_positive != (coefficient > 0), hidden)


def random_control(tensors: Numbers, draw: Draw) -> Numbers:
    """The same moves, turned by a random orthogonal matrix: every activation moves as far, and elsewhere.

    The matrix is width x width, which takes seconds for a width of thousands.
    """
    return {**tensors, "turn": draw(next(iter(tensors.values())).shape[1])}
