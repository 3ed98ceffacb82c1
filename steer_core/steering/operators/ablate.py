"""Directional ablation: h - c r (r . h) with r the unit direction; c = 1 removes it (Arditi et al. 2024, eq. 4).

With a tensor `write` what is taken out along r is taken out along that unit direction instead: the random control.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from steer_core.steering.operators import Draw, Map, Numbers

TENSORS = {"direction": 1}
OPTIONAL = {"write": 1}
SCALARS = ()
UNITS = frozenset({"raw", "kl"})
IDLE_AT_ZERO = True


def apply(hidden: Tensor, tensors: Mapping[str, Tensor], scalars: Mapping[str, float], coefficient: Tensor) -> Tensor:
    """Hidden [rows, tokens, width] with the share `coefficient` of its component along the direction removed."""
    unit = tensors["direction"] / tensors["direction"].norm()
    new: Tensor = hidden - coefficient * (hidden @ unit.T) * tensors.get("write", unit)
    return new


def random_control(tensors: Numbers, draw: Draw) -> Numbers:
    """As much of every activation is read off as before, and written along a random direction: edits of equal size."""
    return {"direction": tensors["direction"], "write": draw(1)}


def affine_map(tensors: Mapping[str, Tensor], coefficient: float) -> Map:
    """The projection, and no shift."""
    unit = tensors["direction"] / tensors["direction"].norm()
    return coefficient * tensors.get("write", unit), unit, unit.new_zeros(unit.shape[1])
