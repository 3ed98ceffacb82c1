"""Affine edit of rank k, then an addition: h - sum_k left_k (right_k . (h - center)) + c direction.

With left = right = the unit direction it is affine concept editing (Marshall et al. 2024); with left = the mean
difference and right = the LDA direction it is LEACE (Belrose et al. 2023, theorem 4.3).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from steer_core.steering.operators import Draw, Map, Numbers

TENSORS = {"left": "k", "right": "k", "center": 1, "direction": 1}
SCALARS = ()
UNITS = frozenset({"raw", "class_alpha", "residual_fraction", "kl"})


def apply(hidden: Tensor, tensors: Mapping[str, Tensor], scalars: Mapping[str, float], coefficient: Tensor) -> Tensor:
    """Hidden [rows, tokens, width] edited; the coefficient scales the addition, the edit is always whole."""
    coordinates = (hidden - tensors["center"]) @ tensors["right"].T  # [rows, tokens, k]
    return hidden - coordinates @ tensors["left"] + coefficient * tensors["direction"]


def random_control(tensors: Numbers, draw: Draw) -> Numbers:
    """What is written is turned as a whole into a random subspace; what is read stays: every edit keeps its size."""
    written = np.concatenate([tensors["left"], tensors["direction"]])  # [k + 1, width]
    # an orthonormal basis of what is written, and coordinates in it
    _, sizes, basis = np.linalg.svd(written, full_matrices=False)
    basis = basis[sizes > 1e-9 * sizes[0]]
    turned = written @ basis.T @ draw(len(basis))
    return {**tensors, "left": turned[:-1], "direction": turned[-1:]}


def affine_map(tensors: Mapping[str, Tensor], coefficient: float) -> Map:
    """The projection about the center, and the addition."""
    left, right = tensors["left"], tensors["right"]
    shift = left.T @ (right @ tensors["center"][0]) + coefficient * tensors["direction"][0]
    return left, right, shift
