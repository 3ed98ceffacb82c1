"""Tell where the text stands on every goal and where it should stand, warn of side effects, let the model think."""

from __future__ import annotations

from steer_core.methods.cleaning import after_heading
from steer_core.methods.prompts.chain_of_thought import REWRITTEN
from steer_core.methods.prompts.single import SinglePrompt, user
from steer_core.methods.protocol import Artifact, GoalTarget, Request, Setting, Traits
from steer_core.methods.wording import direct_instruction, with_text
from steer_core.steering.plan import Message


def build(setting: Setting) -> SinglePrompt:
    """Direct and negative prompt, current and wanted values from 0 to 10, step-by-step thinking.

    It tells the model the measured start of every goal, so it knows more than the other prompts do.
    """

    def line(target: GoalTarget) -> str:
        noun, now = setting.goals[target.goal].noun, round(10 * target.z0)
        wanted = now if target.z_star is None else round(10 * target.z_star)
        change = f"needs {wanted}" if target.z_star is not None else "keep it"
        return f"- {noun}: now {now}, {change}"

    def compose(request: Request, _: Artifact) -> tuple[Message, ...]:
        asked = direct_instruction(request, setting.goals, setting.seed, negative=True, only=False)
        table = "\n".join(line(t) for t in request.goals)
        return user(
            with_text(
                f"{asked}\nOn scales from 0 to 10:\n{table}\n"
                "Think step by step. A change in one of these easily moves another: say how you will prevent it. "
                f'Then write the whole new text under the heading "{REWRITTEN}:".',
                request.text,
            )
        )

    return SinglePrompt(setting, compose, Traits(needs_context=1024), extract=lambda raw: after_heading(raw, REWRITTEN))
