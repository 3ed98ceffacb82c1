"""Steer whatever a model is called with: every position of every row, with no batch to declare.

For a notebook: `model.generate(...)` of plain transformers, beams and all. What needs to know where prompts end (other
positions, gates, receipts, a strength for each row) is `hooks.Steering`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from steer_core.steering.intervention import Intervention
from steer_core.steering.operators import load_operator
from steer_core.steering.sites import Place, find_sites
from steer_core.steering.vector import SteeringVector
from steer_core.tables.errors import SteerworksError


@contextmanager
def steered(model: Any, interventions: Sequence[Intervention], vectors: Mapping[str, SteeringVector]) -> Iterator[None]:
    """Apply interventions to all forward passes of a transformers model inside the context.

    Args:
        model: a causal language model.
        interventions: at positions `all`, without gates.
        vectors: id -> vector.

    Raises:
        SteerworksError: other positions or a gate are asked for, or a vector does not fit the model.
    """
    sites = find_sites(model)
    handles = []
    for i in interventions:
        vector = vectors[i.vector]
        if i.positions != "all" or i.gate is not None:
            raise SteerworksError(
                f"positions {i.positions!r}{' and a gate' if i.gate else ''} need to know where prompts end: generate "
                "through `steer_core.load(...)`, which does"
            )
        if vector.width != sites.width:
            raise SteerworksError(
                f"the vector of {vector.concept!r} has width {vector.width}; this model's hidden size is {sites.width}"
            )
        load_operator(i.operator).check(vector)
    try:
        for i in interventions:
            place = sites.place(i.layer, i.site)
            handles.append(place.module.register_forward_hook(_hook(place, i, vectors[i.vector])))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hook(place: Place, i: Intervention, vector: SteeringVector) -> Any:
    operator = load_operator(i.operator)
    numbers: dict[Any, dict[str, Any]] = {}

    def after(_module: Any, _args: Any, output: Any) -> Any:
        import torch

        hidden = place.hidden(output)
        if hidden.device not in numbers:
            numbers[hidden.device] = {
                n: torch.tensor(np.asarray(t, dtype=np.float32), device=hidden.device)
                for n, t in vector.tensors.items()
            }
        coefficient = torch.full((hidden.shape[0], 1, 1), i.coefficient, device=hidden.device)
        edited = operator.apply(hidden.float() * place.scale, numbers[hidden.device], vector.scalars, coefficient)
        new = (edited / place.scale).to(hidden.dtype)
        return (new, *output[1:]) if isinstance(output, tuple) else new

    return after
