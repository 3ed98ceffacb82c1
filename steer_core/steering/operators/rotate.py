"""Angular steering: turn the component in a plane to an absolute angle, keeping its norm (Vu and Nguyen 2025).

The plane has an orthonormal basis b0, b1; with r the norm of the component of h in it, h' = h - component +
r (cos(angle) b0 + sin(angle) b1). With scalar `adaptive` 1 only tokens with b0 . h > 0 are turned.
With a tensor `write` the change is written into that orthonormal plane instead: the random control.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from steer_core.steering.operators import Draw, Numbers

TENSORS = {"plane": 2}
OPTIONAL = {"write": 2}
SCALARS = ()
UNITS = frozenset({"angle"})


def apply(hidden: Tensor, tensors: Mapping[str, Tensor], scalars: Mapping[str, float], coefficient: Tensor) -> Tensor:
    """Hidden [rows, tokens, width] turned; the coefficient is the angle from b0 towards b1, in degrees."""
    import torch

    plane = tensors["plane"]
    coordinates = hidden @ plane.T  # [rows, tokens, 2]
    radius = coordinates.norm(dim=-1, keepdim=True)
    angle = coefficient.deg2rad()
    turned = radius * torch.cat([angle.cos(), angle.sin()], dim=-1)  # [rows, tokens, 2], coordinates in the plane
    new: Tensor = hidden + (turned - coordinates) @ tensors.get("write", plane)
    return new.where(coordinates[..., :1] > 0, hidden) if scalars.get("adaptive") else new


def random_control(tensors: Numbers, draw: Draw) -> Numbers:
    """The change that the plane makes, written into a random plane: of equal size for every activation."""
    return {"plane": tensors["plane"], "write": draw(2)}
