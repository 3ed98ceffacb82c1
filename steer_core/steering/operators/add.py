"""Add the direction: h + c v (Turner et al. 2023, Activation Addition; Rimsky et al. 2024, CAA)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from steer_core.steering.operators import Draw, Map, Numbers

TENSORS = {"direction": 1}
SCALARS = ()
UNITS = frozenset({"raw", "class_alpha", "residual_fraction", "kl"})
IDLE_AT_ZERO = True
#: Rows with other vectors and strengths are one addition.
ADDITIVE = True


def apply(hidden: Tensor, tensors: Mapping[str, Tensor], scalars: Mapping[str, float], coefficient: Tensor) -> Tensor:
    """Hidden [rows, tokens, width] plus coefficient times direction."""
    return hidden + coefficient * tensors["direction"]


def random_control(tensors: Numbers, draw: Draw) -> Numbers:
    """A random direction of the same norm."""
    return {"direction": draw(1) * np.linalg.norm(tensors["direction"])}


def affine_map(tensors: Mapping[str, Tensor], coefficient: float) -> Map:
    """No projection, and the shift."""
    nothing = tensors["direction"][:0]
    return nothing, nothing, coefficient * tensors["direction"][0]
