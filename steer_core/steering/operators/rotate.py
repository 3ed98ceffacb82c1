"""Angular steering: turn the component in a plane to an absolute angle, keeping its norm (Vu and Nguyen 2025).

The plane has an orthonormal basis b0, b1; with r the norm of the component of h in it, h' = h - component +
r (cos(angle) b0 + sin(angle) b1). With scalar `adaptive` 1 only tokens with b0 . h > 0 are turned.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

TENSORS = {"plane": 2}
SCALARS = ()


def apply(hidden: Tensor, tensors: Mapping[str, Tensor], scalars: Mapping[str, float], coefficient: Tensor) -> Tensor:
    """Hidden [rows, tokens, width] turned; the coefficient is the angle from b0 towards b1, in degrees."""
    plane = tensors["plane"]
    coordinates = hidden @ plane.T  # [rows, tokens, 2]
    radius = coordinates.norm(dim=-1, keepdim=True)
    angle = coefficient.deg2rad()
    turned = radius * (angle.cos() * plane[0] + angle.sin() * plane[1])
    new: Tensor = hidden - coordinates @ plane + turned
    return new.where(coordinates[..., :1] > 0, hidden) if scalars.get("adaptive") else new
