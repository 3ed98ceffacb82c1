"""What is sent to `/v1/completions` of a vLLM server, as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from steer_core.generation.backend import Call
from steer_core.generation.servers.proof import spec_text
from steer_core.generation.vllm_worker.spec import KEY
from steer_core.steering.intervention import Intervention


def completion_body(
    model: str, call: Call, tokens: Sequence[int], room: int, ends: Sequence[int], nonce: str
) -> dict[str, Any]:
    """The request for an answer.

    Args:
        model: what the server calls the model, or the adapter that the row wears: it is asked for as one.
        call: what is asked.
        tokens: ids of the prompt.
        room: tokens that may be written.
        ends: ids that end an answer.
        nonce: what its receipt is asked for by.
    """
    plan, decoding = call.plan, call.plan.decoding
    body: dict[str, Any] = {
        "model": model,
        "prompt": list(tokens),
        "max_tokens": room,
        "temperature": decoding.temperature,
        "stop_token_ids": list(ends),
        "return_token_ids": True,
    }
    if decoding.temperature > 0:
        body |= {"top_p": decoding.top_p, "min_p": decoding.min_p, "seed": call.seed % 2**63}
    return body | steering(plan.interventions, nonce)


def scoring_body(
    model: str,
    interventions: Sequence[Intervention],
    tokens: Sequence[int],
    nonce: str,
    prompt: int,
) -> dict[str, Any]:
    """The request for the log-probability of each token of prompt and answer; the first `prompt` are prompt."""
    body: dict[str, Any] = {
        "model": model,
        "prompt": list(tokens),
        "max_tokens": 1,
        "temperature": 0,
        "prompt_logprobs": 0,
    }
    return body | steering(interventions, nonce, prompt)


def steering(interventions: Sequence[Intervention], nonce: str, prompt: int | None = None) -> dict[str, Any]:
    """The part of a request that steers; nothing of an unsteered one."""
    return {"vllm_xargs": {KEY: spec_text(interventions, nonce, prompt)}} if interventions else {}
