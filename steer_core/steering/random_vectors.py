"""Control vectors: what a random edit of equal size does is the baseline of what a fitted one does."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from schemas.vector_part import Site
from steer_core.steering.operators import load_operator
from steer_core.steering.vector import SteeringVector

Doubles = NDArray[np.float64]


def random_like(vector: SteeringVector, seed: int) -> SteeringVector:
    """A control of the same operator and place, whose edit of any activation is as large and goes elsewhere.

    What is read off an activation stays, what is written is turned at random (`random_control` of each operator), so a
    fitted edit is never larger than its controls; an addition is a random direction of the same norm.

    Args:
        vector: the fitted vector.
        seed: of the draw; with layer and site it decides the control.

    Returns:
        The control: `control` says `random:<seed>`, the lineage names the vector that it stands beside.

    Raises:
        SteerworksError: there is no such operator.
    """
    # layers and sites get directions of their own
    generator = np.random.default_rng([seed, vector.layer, get_args(Site).index(vector.site)])
    given = {n: t.astype(np.float64) for n, t in vector.tensors.items()}
    tensors = load_operator(vector.operator).random_control(given, lambda k: _draw(generator, k, vector.width))
    return replace(
        vector,
        tensors={n: t.astype(np.float32) for n, t in tensors.items()},
        control=f"random:{seed}",
        reliability=None,
        lineage={"control_of": vector.id, "seed": int(vector.lineage.get("seed", 0))},
        kl_curve=(),
    )


def _draw(generator: np.random.Generator, k: int, width: int) -> Doubles:
    """Random orthonormal rows, shape [k, width]."""
    q, r = np.linalg.qr(generator.standard_normal((width, k)))
    # with the signs of the diagonal taken out the draw is uniform (Mezzadri 2007)
    rows: Doubles = (q * np.sign(np.diag(r))).T
    return rows
