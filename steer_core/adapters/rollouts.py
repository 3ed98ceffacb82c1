"""Completions to train on, written by our own engine from the very weights that are being trained.

Rows leave their pass as they end, each draws from its own seed, and each token comes with the log-probability that it
was drawn with: the trainer's own is held against it at every step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from schemas.digest import digest_text
from schemas.specs import Decoding
from steer_core.generation.backend import Backend, Call, Generation, answer_all
from steer_core.steering.plan import Plan
from steer_core.tables.errors import SteerworksError


@dataclass(frozen=True)
class Rollouts:
    """Writes completions of requests.

    Attributes:
        backend: an engine over the weights under training.
        plans: request id -> its prompt.
        prompts: request id -> token ids of it.
        decoding: how completions are drawn.
        seed: of the run.
        batch_size: most rows under way.
    """

    backend: Backend
    plans: Mapping[str, Plan]
    prompts: Mapping[str, Sequence[int]]
    decoding: Decoding
    seed: int
    batch_size: int

    def write(self, requests: Sequence[str], step: int, own: slice = slice(None)) -> list[Generation]:
        """A completion for each request, with tokens and log-probabilities; a request may stand several times.

        Args:
            requests: ids, all of the step.
            step: optimiser step, part of the seed: the same step draws the same completions.
            own: which of them this process writes.

        Raises:
            SteerworksError: the engine gave a completion without a token.
        """
        times: dict[str, int] = {}
        calls = []
        for request in requests:
            k = times[request] = times.get(request, -1) + 1
            plan = replace(self.plans[request], decoding=self.decoding)
            calls.append(Call(plan, k, _seed(self.seed, step, request, k), log_probs=True))
        found = answer_all(self.backend, calls[own], self.batch_size)
        for request, answer in zip(requests[own], found, strict=True):
            if not answer.tokens:
                raise SteerworksError(f"request {request}: the engine wrote nothing, so there is nothing to train on")
        return found

    def for_trainer(self, requests: Sequence[str], step: int, own: slice = slice(None)) -> dict[str, Any]:
        """What trl's `rollout_func` is to return, with the raw text and why it ended as further columns (`write`)."""
        found = self.write(requests, step, own)
        return {
            "prompt_ids": [list(self.prompts[r]) for r in requests[own]],
            "completion_ids": [list(a.tokens) for a in found],
            "logprobs": [list(a.log_probs) for a in found],
            "raw": [a.raw for a in found],
            "finish_reason": [a.finish_reason for a in found],
        }


def _seed(seed: int, step: int, request: str, k: int) -> int:
    return int(digest_text(f"rollout:{seed}:{step}:{request}:{k}")[:15], 16)
