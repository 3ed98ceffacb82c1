"""Where an effect stands among those of its controls."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Largest p at which an effect is said to be beyond its controls.
LEVEL = 0.05


def rank_p(effect: float, controls: Floats) -> float | None:
    """Two-sided rank p: (1 + controls that move as far, either way) / (1 + controls).

    An effect that is a draw like its controls has p <= a in at most the share a of worlds, whatever the distribution
    (Phipson and Smyth 2010). The side is not chosen after looking.

    Args:
        effect: difference to the unsteered arm.
        controls: the same of each control, shape [n]; a NaN is left out.

    Returns:
        None without an effect or without controls.
    """
    known = controls[np.isfinite(controls)]
    if not math.isfinite(effect) or not len(known):
        return None
    return float((1 + (np.abs(known) >= abs(effect)).sum()) / (1 + len(known)))


def least_controls(level: float = LEVEL) -> int:
    """Controls from which the best rank reaches that level: with fewer no effect can be called beyond them."""
    return math.ceil(1.0 / level - 1e-9) - 1
