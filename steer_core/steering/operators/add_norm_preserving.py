"""Add the direction and scale back to the norm that the activation had: (h + c v) |h| / |h + c v|."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

TENSORS = {"direction": 1}
SCALARS = ()

#: A sum of this norm or less points nowhere; it is left as it is.
_NOWHERE = 1e-12


def apply(hidden: Tensor, tensors: Mapping[str, Tensor], scalars: Mapping[str, float], coefficient: Tensor) -> Tensor:
    """Hidden [rows, tokens, width] turned towards the direction, each token keeping its norm."""
    moved = hidden + coefficient * tensors["direction"]
    before, after = hidden.norm(dim=-1, keepdim=True), moved.norm(dim=-1, keepdim=True)
    new: Tensor = moved * (before / after.clamp_min(_NOWHERE))
    return new
