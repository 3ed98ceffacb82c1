"""What the worker inside vLLM says it did, as the receipt that stands beside a response."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from steer_core.generation.backend import Interventions
from steer_core.generation.vllm_worker.spec import write_spec
from steer_core.generation.vllm_worker.support import GATES, OPERATORS, POSITIONS, sites_of
from steer_core.steering.intervention import Intervention
from steer_core.steering.positions import parse_positions
from steer_core.steering.receipts import Receipt, make_receipt
from steer_core.steering.vector import SteeringVector
from steer_core.tables.errors import SteerworksError


def worker_interventions(model_type: str) -> Interventions:
    """Which interventions the worker carries out in a family of models (`config.model_type`)."""
    sites: Any = sites_of(model_type)
    return Interventions(OPERATORS, POSITIONS, sites, GATES)


def spec_text(interventions: Sequence[Intervention], nonce: str, prompt: int | None = None) -> str:
    """What a request carries under `steer` in `vllm_xargs`.

    Args:
        interventions: what is done.
        nonce: what its receipt is asked for by; empty: nobody will.
        prompt: how many of the request's tokens count as prompt; None: all that vLLM is given. Needed where a given
            answer is scored, for it is then a part of what vLLM calls the prompt.
    """
    return write_spec([i.to_dict() for i in interventions], nonce, prompt)


def vector_body(vector: SteeringVector) -> dict[str, Any]:
    """A vector as the worker's `steer_upload` takes it, its id for a name."""
    tensors = {
        name: {
            "shape": list(tensor.shape),
            "float32": base64.b64encode(np.ascontiguousarray(tensor, dtype="<f4").tobytes()).decode(),
        }
        for name, tensor in vector.tensors.items()
    }
    scalars = {name: float(value) for name, value in vector.scalars.items()}
    return {"name": vector.id, "layer": int(vector.layer), "tensors": tensors, "scalars": scalars}


def worker_receipt(
    row: int, interventions: Sequence[Intervention], prompt_length: int, tokens: int, found: Mapping[str, Any] | None
) -> Receipt:
    """The receipt of a row that the worker steered, if what it saw is what was expected.

    A token taken from the prefix cache counts as touched: the cache is keyed by prompt and steering, so that whoever
    left it there was steered alike. A token that was fed after the answer had ended does not count.

    Args:
        row: its number, for messages.
        interventions: what should have been done.
        prompt_length: tokens of its prompt.
        tokens: tokens of the row that were fed to the model; the last one that was written is not.
        found: what the worker says of the request (`vllm_worker.steerer`); None: nothing.

    Raises:
        SteerworksError: it says nothing, or something else than expected; names row and layer.
    """
    if found is None or len(found["touches"]) != len(interventions):
        raise SteerworksError(f"row {row}: the vLLM worker has no receipt of it: its answer is not known to be steered")
    if found["prompt"] != prompt_length:
        raise SteerworksError(
            f"row {row}: the vLLM worker read a prompt of {found['prompt']} tokens, not {prompt_length}"
        )
    observed = []
    for i, touch in zip(interventions, found["touches"], strict=True):
        positions = parse_positions(i.positions)
        cached = positions.count(prompt_length, found["cached"])
        late = positions.count(prompt_length, found["reached"]) - positions.count(prompt_length, tokens)
        observed.append(cached + touch["observed"] - max(0, late))
    is_open = [True] * len(interventions)
    return make_receipt(row, interventions, prompt_length, tokens, observed, is_open, realisation="worker")
