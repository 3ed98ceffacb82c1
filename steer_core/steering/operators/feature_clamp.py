"""Set a feature of a sparse autoencoder to a value: h + (c - a(h)) d, with a(h) its activation and d its decoder row.

a(h) = z where z = e . h + bias is above the threshold, else 0: a ReLU with threshold 0, a jump ReLU (Rajamanoharan et
al. 2024) with its own. What the autoencoder does not explain of h is left as it is (Templeton et al. 2024). c = 0 takes
the feature out. With a tensor `write` the change is written along that row instead: the random control.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from steer_core.steering.operators import Draw, Numbers

TENSORS = {"encoder": 1, "decoder": 1}
OPTIONAL = {"write": 1}
SCALARS = ("bias", "threshold")
UNITS = frozenset({"raw"})


def activation(hidden: Tensor, tensors: Mapping[str, Tensor], scalars: Mapping[str, float]) -> Tensor:
    """Activation of the feature, shape [rows, tokens, 1]."""
    found: Tensor = hidden @ tensors["encoder"].T + scalars["bias"]
    return found.where(found > max(scalars["threshold"], 0.0), found.new_zeros(()))


def apply(hidden: Tensor, tensors: Mapping[str, Tensor], scalars: Mapping[str, float], coefficient: Tensor) -> Tensor:
    """Hidden [rows, tokens, width] with the feature at the coefficient."""
    new: Tensor = hidden + (coefficient - activation(hidden, tensors, scalars)) * tensors.get(
        "write", tensors["decoder"]
    )
    return new


def random_control(tensors: Numbers, draw: Draw) -> Numbers:
    """The change that the feature makes, written along a random row of the same norm."""
    return {**tensors, "write": draw(1) * np.linalg.norm(tensors["decoder"])}
