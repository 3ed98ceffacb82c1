"""Let the model list its edits before it writes (Chang et al. 2025: CoT)."""

from __future__ import annotations

from steer_core.methods.cleaning import after_heading
from steer_core.methods.prompts.single import SinglePrompt, user
from steer_core.methods.protocol import Artifact, Request, Setting, Traits
from steer_core.methods.wording import direct_instruction, with_text
from steer_core.steering.plan import Message

EDITS, REWRITTEN = "Edits", "Rewritten text"
FORM = (
    f' First list the concrete edits that you will make, one a line, under the heading "{EDITS}:". '
    f'Then write the whole new text under the heading "{REWRITTEN}:".'
)


def build(setting: Setting, *, negative: bool = False) -> SinglePrompt:
    """Direct prompt, then edits and text under two headings; an answer without the second is unparsable.

    Args:
        setting: model, goals, decoding, seed.
        negative: add that nothing else may change.
    """

    def compose(request: Request, _: Artifact) -> tuple[Message, ...]:
        asked = direct_instruction(request, setting.goals, setting.seed, negative=negative, only=False)
        return user(with_text(asked + FORM, request.text))

    return SinglePrompt(setting, compose, Traits(needs_context=1024), extract=lambda raw: after_heading(raw, REWRITTEN))
