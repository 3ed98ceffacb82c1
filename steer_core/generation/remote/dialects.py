"""How endpoints that speak OpenAI's protocol differ."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from schemas.endpoints import Dialect

#: Ways to ask for log-probabilities of a prompt's tokens: OpenAI's legacy `echo`, or vLLM's `prompt_logprobs`.
Way = Literal["echo", "prompt_logprobs"]


@dataclass(frozen=True)
class Particulars:
    """What an endpoint takes and says.

    Attributes:
        base_url: its address, where it has just one.
        limit: the field that limits what is written.
        seed: whether it takes a seed; what it draws with it is its own promise.
        min_p: whether it takes `min_p`.
        text: whether it completes bare texts and token ids.
        thinking: fields of a message that hold what was thought apart from the answer.
        scores: ways in which it gives log-probabilities of a prompt's tokens; the endpoint's `scores` picks one.
        token_ids: whether it says, if asked, which token ids it read.
        limit_counts_thinking: whether thinking takes of the limit.
        batches: whether it has OpenAI's batch API.
        hottest: its highest temperature.
        usage: a further field of requests, so that the reply says tokens or money.
    """

    base_url: str | None = None
    limit: str = "max_tokens"
    seed: bool = True
    min_p: bool = False
    text: bool = False
    thinking: tuple[str, ...] = ("reasoning_content", "reasoning")
    scores: tuple[Way, ...] = ()
    token_ids: bool = False
    limit_counts_thinking: bool = True
    batches: bool = False
    hottest: float = 2.0
    usage: dict[str, object] = field(default_factory=dict)


#: As their documentation has it at the end of 2025.
DIALECTS: dict[Dialect, Particulars] = {
    "openai": Particulars("https://api.openai.com/v1", limit="max_completion_tokens", batches=True),
    "azure": Particulars(limit="max_completion_tokens", batches=True),
    "openrouter": Particulars("https://openrouter.ai/api/v1", min_p=True, usage={"usage": {"include": True}}),
    "deepinfra": Particulars("https://api.deepinfra.com/v1/openai", min_p=True, text=True),
    "vllm": Particulars(min_p=True, text=True, scores=("prompt_logprobs", "echo"), token_ids=True),
    "llama.cpp": Particulars(min_p=True, text=True),
    "anthropic": Particulars("https://api.anthropic.com/v1", seed=False, hottest=1.0),
    "cohere": Particulars("https://api.cohere.ai/compatibility/v1", hottest=1.0),
    # whoever sets `scores` knows the server
    "compatible": Particulars(scores=("echo", "prompt_logprobs")),
}
