"""From a plan to token ids; needs a tokenizer and no weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from steer_core.steering.plan import Plan


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
