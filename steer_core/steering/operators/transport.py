"""Transport to a class: T(h) = M (h - center) + mean of the class, by the sign of the coefficient.

M is `map_positive` for c > 0 and `map_negative` for c < 0; a map multiplies column vectors. |c| below 1 goes that
share of the way, h + |c| (T(h) - h); beyond 1 it is 1. Gaussian optimal transport has maps
S^-1/2 (S^1/2 S' S^1/2)^1/2 S^-1/2 (Knott and Smith 1984).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

TENSORS = {
    "map_positive": "width",
    "map_negative": "width",
    "center": 1,
    "mean_positive": 1,
    "mean_negative": 1,
}
SCALARS = ()


def apply(hidden: Tensor, tensors: Mapping[str, Tensor], scalars: Mapping[str, float], coefficient: Tensor) -> Tensor:
    """Hidden [rows, tokens, width] moved towards the class that the coefficient's sign names; 0 moves nothing."""
    centered = hidden - tensors["center"]
    positive = centered @ tensors["map_positive"].T + tensors["mean_positive"]
    negative = centered @ tensors["map_negative"].T + tensors["mean_negative"]
    target = positive.where(coefficient > 0, negative)
    return hidden + coefficient.abs().clamp_max(1.0) * (target - hidden)
