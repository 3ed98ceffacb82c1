"""Control vectors: what a random direction of equal size does is the baseline of what a fitted one does."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from schemas.specs import Site
from steer_core.steering.vector import Floats, SteeringVector
from steer_core.tables.errors import SteerworksError

Doubles = NDArray[np.float64]


def random_like(vector: SteeringVector, seed: int) -> SteeringVector:
    """A control of the same operator, place and size, whose directions are drawn at random (isotropic Gaussian).

    Directions keep their norm. An affine map of rank k projects on k random orthonormal directions, the first along
    the new direction, about the same center. A plane becomes a random plane. Transport maps and class means are turned
    by one random orthogonal matrix about the center, so shifts and stretches stay as large as they were; the matrix is
    width x width, which takes seconds for a width of thousands.

    Args:
        vector: the fitted vector.
        seed: of the draw; with layer and site it decides the control.

    Returns:
        The control: `control` says `random:<seed>`, the lineage names the vector that it stands beside.

    Raises:
        SteerworksError: the operator is not one that a control is defined for.
    """
    # layers and sites get directions of their own
    generator = np.random.default_rng([seed, vector.layer, get_args(Site).index(vector.site)])
    norm = vector.norm or 0.0  # of maps without a direction it is not used
    match vector.operator:
        case "add" | "add_norm_preserving" | "ablate":
            tensors = {"direction": _draw(generator, 1, vector.width) * norm}
            scalars = dict(vector.scalars)
        case "affine":
            basis = _draw(generator, vector.tensors["left"].shape[0], vector.width)
            tensors = {
                "left": basis,
                "right": basis,
                "center": vector.tensors["center"].astype(np.float64),
                "direction": basis[:1] * norm,
            }
            scalars = dict(vector.scalars)
        case "rotate":
            tensors, scalars = {"plane": _draw(generator, 2, vector.width)}, dict(vector.scalars)
        case "transport" | "gated_transport":
            tensors, scalars = _turned(vector, _draw(generator, vector.width, vector.width))
        case _:
            raise SteerworksError(f"no random control is defined for operator {vector.operator!r}")
    return replace(
        vector,
        tensors={n: t.astype(np.float32) for n, t in tensors.items()},
        scalars=scalars,
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


def _turned(vector: SteeringVector, q: Doubles) -> tuple[dict[str, Doubles], dict[str, float]]:
    """Maps, means and discriminant turned by q [width, width] about the center."""
    given: dict[str, Floats] = dict(vector.tensors)
    if "center" in given:
        center = given["center"].astype(np.float64)
    else:
        center = (given["mean_positive"].astype(np.float64) + given["mean_negative"]) / 2
    tensors: dict[str, Doubles] = {}
    for name, value in given.items():
        if name.startswith("map_"):
            tensors[name] = q @ value @ q.T
        elif name.startswith("mean_"):
            tensors[name] = center + (value - center) @ q.T
        elif name == "lda":
            tensors[name] = value @ q.T
        else:
            tensors[name] = value.astype(np.float64)
    scalars = dict(vector.scalars)
    if "lda" in given:
        # the threshold keeps its distance from the center
        scalars["lda_threshold"] += float(((tensors["lda"] - given["lda"]) @ center.T).item())
    return tensors, scalars
