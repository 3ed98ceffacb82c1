"""From a plan to token ids; needs a tokenizer and no weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from steer_core.steering.plan import Plan

if TYPE_CHECKING:
    from torch import Tensor


def encode_plan(plan: Plan, tokenizer: Any, chat: bool, template_options: Mapping[str, Any]) -> list[int]:
    """Token ids of a plan's prompt.

    Without a chat template the turns are set one below the other, a blank line between them.

    Args:
        plan: what is asked.
        tokenizer: a `transformers` tokenizer.
        chat: whether messages go through its chat template.
        template_options: arguments of the template.
    """
    if plan.tokens is not None:
        return list(plan.tokens)
    if plan.text is not None:
        return list(tokenizer(plan.text)["input_ids"])
    assert plan.messages is not None
    if not chat:
        return list(tokenizer("\n\n".join(m.content for m in plan.messages) + "\n\n")["input_ids"])
    messages = [{"role": m.role, "content": m.content} for m in plan.messages]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False, **template_options)
    # the template has written the special tokens already
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def pad_left(rows: Sequence[Sequence[int]], pad: int, device: str) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask of a batch, both of shape [rows, longest]; padding stands on the left."""
    import torch

    width = max(map(len, rows))
    ids = [[pad] * (width - len(r)) + list(r) for r in rows]
    mask = [[0] * (width - len(r)) + [1] * len(r) for r in rows]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)
