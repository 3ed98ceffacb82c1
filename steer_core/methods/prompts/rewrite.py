"""Control: ask for a rewrite and say nothing of the goals."""

from __future__ import annotations

from steer_core.methods.prompts.single import SinglePrompt, user
from steer_core.methods.protocol import Setting
from steer_core.methods.wording import ONLY, REWRITE, with_text


def build(setting: Setting, *, only: bool = False) -> SinglePrompt:
    """An unsteered rewrite.

    Args:
        setting: model, goals, decoding, seed.
        only: add "Answer with the rewritten text only.".
    """
    return SinglePrompt(
        setting,
        lambda r, _: user(with_text(f"{REWRITE}.{ONLY if only else ''}", r.text)),
        standing=lambda _: "",
    )
