"""Vectors of one model in another of the same shape: said on purpose, recorded, and refused where it cannot be.

A vector is refused by every model but its own, by fingerprint. Models that were trained on from one another (a base and
its fine-tuned relatives) may still share their spaces: BiPO's vectors of Llama-2 were used on Vicuna and on a Chinese
relative (Cao et al. 2024). That two models of one shape share theirs is a claim: what the vector does in the other is
measured there like anything else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from steer_core.models.loading import LoadedModel
from steer_core.steering.sites import find_sites
from steer_core.steering.vector import SteeringVector
from steer_core.tables.errors import SteerworksError
from steer_core.vectors.algebra import transfer

#: What the lineage of such a vector calls its operation.
OPERATION = "transfer"


def shape_of(loaded: LoadedModel) -> tuple[int, int]:
    """Hidden size and number of decoder layers of a model."""
    sites = find_sites(loaded.model)
    return sites.width, len(sites.layers)


def carry_over(
    vectors: Sequence[SteeringVector],
    to: LoadedModel,
    *,
    source: str,
    layers: int | None = None,
) -> list[SteeringVector]:
    """Vectors of one model, labelled as those of another, with a lineage that says where they are from.

    What was measured on the first model is dropped: activation norms, divergences, reliability. The class scale stays,
    as part of the claim.

    Args:
        vectors: of one model.
        to: the other model.
        source: name of the first model, for people.
        layers: number of decoder layers of the first model; None: not known, and only looked at layer by layer.

    Raises:
        SteerworksError: width or number of layers differ, a layer is beyond the last, or the vector is the model's own.
    """
    width, n_layers = shape_of(to)
    if layers is not None and layers != n_layers:
        raise SteerworksError(
            f"model {source!r} has {layers} layers and model {to.spec.name!r} has {n_layers}: the same layer is "
            "another place there. Fit the vector on the other model instead"
        )
    found = []
    for vector in vectors:
        if vector.model == to.fingerprint:
            raise SteerworksError(
                f"vector of {vector.concept!r} is of model {to.spec.name!r} itself: there is nothing to carry over"
            )
        if vector.layer >= n_layers:
            raise SteerworksError(
                f"vector of {vector.concept!r} is of layer {vector.layer}, and model {to.spec.name!r} has layers 0 to "
                f"{n_layers - 1}"
            )
        moved = transfer(vector, to.fingerprint, width)
        found.append(replace(moved, lineage={**moved.lineage, "source": source}))
    return found
