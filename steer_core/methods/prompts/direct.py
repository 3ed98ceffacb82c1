"""Say what is wanted, goal by goal, in plain comparatives (Chang et al. 2025: direct, negative, no-explain)."""

from __future__ import annotations

from steer_core.methods.prompts.single import SinglePrompt, user
from steer_core.methods.protocol import Setting
from steer_core.methods.wording import direct_instruction, standing_instruction, with_text


def build(setting: Setting, *, negative: bool = False, only: bool = True) -> SinglePrompt:
    """The direct prompt.

    Args:
        setting: model, goals, decoding, seed.
        negative: add that nothing else may change.
        only: ask for the rewritten text only.
    """
    return SinglePrompt(
        setting,
        lambda r, _: user(
            with_text(direct_instruction(r, setting.goals, setting.seed, negative=negative, only=only), r.text)
        ),
        standing=lambda r: standing_instruction(r, setting.goals, setting.seed, negative=negative),
    )
