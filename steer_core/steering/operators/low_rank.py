"""Trained edit of rank k: h + c (sum_k left_k (right_k . h) + direction).

With left = R (orthonormal rows), right = W - R and direction = R^T b it is LoReFT (Wu et al. 2024, arXiv:2404.03592,
Eq. 2) at coefficient 1: h + R^T (W h + b - R h). At 0 nothing changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from steer_core.steering.operators import Draw, Map, Numbers

TENSORS = {"left": "k", "right": "k", "direction": 1}
SCALARS = ()
UNITS = frozenset({"raw"})
IDLE_AT_ZERO = True


def apply(hidden: Tensor, tensors: Mapping[str, Tensor], scalars: Mapping[str, float], coefficient: Tensor) -> Tensor:
    """Hidden [rows, tokens, width] edited; the coefficient scales the whole edit."""
    return hidden + coefficient * ((hidden @ tensors["right"].T) @ tensors["left"] + tensors["direction"])


def random_control(tensors: Numbers, draw: Draw) -> Numbers:
    """What is written is turned as a whole into a random subspace; what is read stays: every edit keeps its size."""
    written = np.concatenate([tensors["left"], tensors["direction"]])  # [k + 1, width]
    _, sizes, basis = np.linalg.svd(written, full_matrices=False)
    basis = basis[sizes > 1e-9 * sizes[0]]
    turned = written @ basis.T @ draw(len(basis))
    return {**tensors, "left": turned[:-1], "direction": turned[-1:]}


def affine_map(tensors: Mapping[str, Tensor], coefficient: float) -> Map:
    """The edit times the coefficient."""
    return -coefficient * tensors["left"], tensors["right"], coefficient * tensors["direction"][0]
