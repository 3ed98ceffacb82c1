"""Completions to train on that trl's vLLM writes: in the trainer's own process, or a server that weights are sent to.

trl hands the weights over before each set of completions, and keeps vLLM's switches (`vllm_mode`,
`vllm_server_base_url`, ...). What is written is held against the trainer's log-probabilities like that of our own
engine, so weights that never arrived are found out. It is drawn from a generator of vLLM's: a run that was interrupted
does not end in the weights of one that was not.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from steer_core.tables.errors import SteerworksError


@dataclass(frozen=True)
class VllmRollouts:
    """Has a trainer's vLLM write completions of requests.

    Attributes:
        prompts: request id -> token ids of its prompt.
        write: token ids of a completion -> its text.
        ends: tokens that end an answer.
        group: completions of a request, which stand side by side.
    """

    prompts: Mapping[str, Sequence[int]]
    write: Callable[[Sequence[int]], str]
    ends: Collection[int]
    group: int

    def for_trainer(self, requests: Sequence[str], trainer: Any) -> dict[str, Any]:
        """What trl's `rollout_func` is to return, with the raw text and why it ended as further columns.

        Args:
            requests: ids, those of this process.
            trainer: trl's, with its vLLM.

        Raises:
            SteerworksError: a completion without a token, or a token without a log-probability.
        """
        asked = [list(self.prompts[r]) for r in requests]
        _, completions, found, _ = trainer.vllm_generation.generate(asked, None, self.group)
        log_probs = [[of_token[0] for of_token in row] for row in found]
        for request, tokens, own in zip(requests, completions, log_probs, strict=True):
            if not tokens or len(own) != len(tokens) or None in own:
                raise SteerworksError(
                    f"request {request}: vLLM gave {len(tokens)} tokens with {sum(v is not None for v in own)} "
                    "log-probabilities: there is nothing to train on, or nothing to hold it against"
                )
        return {
            "prompt_ids": asked,
            "completion_ids": [list(tokens) for tokens in completions],
            "logprobs": log_probs,
            "raw": [self.write(tokens) for tokens in completions],
            "finish_reason": ["stop" if tokens[-1] in self.ends else "length" for tokens in completions],
        }
