"""Add the direction and scale back to the norm that the activation had: (h + c v) |h| / |h + c v|."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from steer_core.steering.operators import Draw, Numbers

TENSORS = {"direction": 1}
SCALARS = ()
UNITS = frozenset({"raw", "class_alpha", "residual_fraction", "kl"})
IDLE_AT_ZERO = True

#: A sum of this norm or less points nowhere; it is left as it is.
_NOWHERE = 1e-12


def apply(hidden: Tensor, tensors: Mapping[str, Tensor], scalars: Mapping[str, float], coefficient: Tensor) -> Tensor:
    """Hidden [rows, tokens, width] turned towards the direction, each token keeping its norm."""
    moved = hidden + coefficient * tensors["direction"]
    before, after = hidden.norm(dim=-1, keepdim=True), moved.norm(dim=-1, keepdim=True)
    new: Tensor = moved * (before / after.clamp_min(_NOWHERE))
    return new


def random_control(tensors: Numbers, draw: Draw) -> Numbers:
    """A random direction of the same norm."""
    return {"direction": draw(1) * np.linalg.norm(tensors["direction"])}
