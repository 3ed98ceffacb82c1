"""Scale a feature of a sparse autoencoder: h + c a(h) d, so that its activation becomes (1 + c) a(h).

a and d are those of `feature_clamp`. Where the feature is silent nothing changes; c = -1 takes it out, 1 doubles it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from steer_core.steering.operators.feature_clamp import OPTIONAL as OPTIONAL
from steer_core.steering.operators.feature_clamp import SCALARS as SCALARS
from steer_core.steering.operators.feature_clamp import TENSORS as TENSORS
from steer_core.steering.operators.feature_clamp import activation
from steer_core.steering.operators.feature_clamp import random_control as random_control

if TYPE_CHECKING:
    from torch import Tensor

UNITS = frozenset({"raw"})
IDLE_AT_ZERO = True


def apply(hidden: Tensor, tensors: Mapping[str, Tensor], scalars: Mapping[str, float], coefficient: Tensor) -> Tensor:
    """Hidden [rows, tokens, width] with the feature's activation (1 + coefficient) times what it was."""
    new: Tensor = hidden + coefficient * activation(hidden, tensors, scalars) * tensors.get("write", tensors["decoder"])
    return new
