"""Transport of the tokens that are of the other class: each token's class is told by linear discriminant analysis.

A token is positive where lda . h > `lda_threshold`. With c > 0 negative tokens move,
T(h) = map_to_positive (h - mean_negative) + mean_positive; with c < 0 positive ones move the other way. Tokens that are
of the target class are left alone. |c| below 1 goes that share of the way; beyond 1 it is 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

TENSORS = {
    "lda": 1,
    "map_to_positive": "width",
    "map_to_negative": "width",
    "mean_positive": 1,
    "mean_negative": 1,
}
SCALARS = ("lda_threshold",)


def apply(hidden: Tensor, tensors: Mapping[str, Tensor], scalars: Mapping[str, float], coefficient: Tensor) -> Tensor:
    """Hidden [rows, tokens, width] with the tokens of the other class moved; coefficient 0 moves nothing."""
    is_positive = hidden @ tensors["lda"].T > scalars["lda_threshold"]  # [rows, tokens, 1]
    to_positive = (hidden - tensors["mean_negative"]) @ tensors["map_to_positive"].T + tensors["mean_positive"]
    to_negative = (hidden - tensors["mean_positive"]) @ tensors["map_to_negative"].T + tensors["mean_negative"]
    target = to_positive.where(coefficient > 0, to_negative)
    moved = hidden + coefficient.abs().clamp_max(1.0) * (target - hidden)
    return moved.where(is_positive != (coefficient > 0), hidden)
