"""Affine edit of rank k, then an addition: h - sum_k left_k (right_k . (h - center)) + c direction.

With left = right = the unit direction it is affine concept editing (Marshall et al. 2024); with left = the mean
difference and right = the LDA direction it is LEACE (Belrose et al. 2023, theorem 4.3).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

TENSORS = {"left": "k", "right": "k", "center": 1, "direction": 1}
SCALARS = ()


def apply(hidden: Tensor, tensors: Mapping[str, Tensor], scalars: Mapping[str, float], coefficient: Tensor) -> Tensor:
    """Hidden [rows, tokens, width] edited; the coefficient scales the addition, the edit is always whole."""
    coordinates = (hidden - tensors["center"]) @ tensors["right"].T  # [rows, tokens, k]
    return hidden - coordinates @ tensors["left"] + coefficient * tensors["direction"]
