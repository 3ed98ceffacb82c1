"""Directional ablation: h - c r (r . h) with r the unit direction; c = 1 removes it (Arditi et al. 2024, eq. 4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

TENSORS = {"direction": 1}
SCALARS = ()


def apply(hidden: Tensor, tensors: Mapping[str, Tensor], scalars: Mapping[str, float], coefficient: Tensor) -> Tensor:
    """Hidden [rows, tokens, width] with the share `coefficient` of its component along the direction removed."""
    unit = tensors["direction"] / tensors["direction"].norm()
    new: Tensor = hidden - coefficient * (hidden @ unit.T) * unit
    return new
