"""The log-probabilities that a vLLM gives of the tokens of a text that is there."""

from __future__ import annotations

import uuid

from steer_core.generation.servers.asked import scoring_body
from steer_core.generation.servers.completions import receipts_of
from steer_core.generation.servers.proof import worker_receipt
from steer_core.generation.servers.running import Running
from steer_core.steering.intervention import Intervention


def scored(
    server: Running,
    model: str,
    interventions: tuple[Intervention, ...],
    prompt: tuple[int, ...],
    answer: tuple[int, ...],
) -> list[float]:
    """Log-probability (nats) of each token of an answer after its prompt.

    Args:
        server: that runs.
        model: what it calls the model, or the adapter that is worn.
        interventions: of the row.
        prompt: token ids.
        answer: token ids.

    Raises:
        SteerworksError: an intervention cannot be applied, or a receipt does not add up.
    """
    nonce, whole = uuid.uuid4().hex, [*prompt, *answer]
    found = server.complete(scoring_body(model, interventions, whole, nonce, len(prompt)))["prompt_logprobs"]
    if interventions:
        receipt = receipts_of(server, [nonce]).get(nonce)
        # the last token is scored; that it was read as well moves no number
        worker_receipt(0, interventions, len(prompt), len(whole) - 1, receipt)
    at = range(len(prompt), len(whole))
    return [float(found[k][str(whole[k])]["logprob"]) for k in at]
