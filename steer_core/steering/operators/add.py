"""Add the direction: h + c v (Turner et al. 2023, Activation Addition; Rimsky et al. 2024, CAA)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

TENSORS = {"direction": 1}
SCALARS = ()
#: Rows with other vectors and strengths are one addition.
ADDITIVE = True


def apply(hidden: Tensor, tensors: Mapping[str, Tensor], scalars: Mapping[str, float], coefficient: Tensor) -> Tensor:
    """Hidden [rows, tokens, width] plus coefficient times direction."""
    return hidden + coefficient * tensors["direction"]
