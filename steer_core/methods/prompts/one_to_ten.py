"""Say how far to move on a scale of ten levels."""

from __future__ import annotations

from steer_core.methods.prompts.single import SinglePrompt, user
from steer_core.methods.protocol import Artifact, GoalTarget, Request, Setting
from steer_core.methods.wording import NEGATIVE, ONLY, REWRITE, STANDING_NEGATIVE, with_text
from steer_core.steering.plan import Message


def build(setting: Setting, *, negative: bool = False, only: bool = True) -> SinglePrompt:
    """One bullet a goal, with round(10 |delta|) levels up or down.

    Args:
        setting: model, goals, decoding, seed.
        negative: add that nothing else may change.
        only: ask for the rewritten text only.
    """

    def bullet(target: GoalTarget) -> str:
        levels = round(10 * abs(target.delta))
        if not levels:
            return f"- keep the {setting.goals[target.goal].noun}"
        verb = "raise" if target.delta > 0 else "lower"
        return f"- {verb} the {setting.goals[target.goal].noun} by {levels} {'level' if levels == 1 else 'levels'}"

    def compose(request: Request, _: Artifact) -> tuple[Message, ...]:
        if request.active:
            bullets = "\n".join(bullet(t) for t in request.active)
            asked = f"{REWRITE} with these changes, on scales from 1 to 10:\n{bullets}\n"
        else:
            asked = f"{REWRITE}. Keep it as it is."
        closing = (NEGATIVE if negative else "") + (ONLY if only else "")
        return user(with_text(asked + (closing.strip() if request.active else closing), request.text))

    def standing(request: Request) -> str:
        bullets = "\n".join(bullet(t) for t in request.active)
        return f"Whatever you are asked, answer with these changes, on scales from 1 to 10:\n{bullets}" + (
            f"\n{STANDING_NEGATIVE.strip()}" if negative else ""
        )

    return SinglePrompt(setting, compose, standing=standing)
