"""Give edit ideas instead of, or beside, the goals (Chang et al. 2025: Inst, Direct+Inst)."""

from __future__ import annotations

from steer_core.methods.prompts.edit_ideas import draw_ideas, fit_edit_ideas
from steer_core.methods.prompts.single import SinglePrompt, user
from steer_core.methods.protocol import Artifact, Request, Setting, Traits
from steer_core.methods.wording import NEGATIVE, ONLY, REWRITE, direct_instruction, with_text
from steer_core.steering.plan import Message
from steer_core.tables.errors import ConfigError


def build(
    setting: Setting, *, n_ideas: int = 3, direct: bool = False, negative: bool = False, only: bool = True
) -> SinglePrompt:
    """A rewrite with a list of edits, fitted from chain-of-thought answers to the training pool.

    Args:
        setting: model, goals, decoding, seed.
        n_ideas: edits drawn for each request.
        direct: say the goals as well.
        negative: add that nothing else may change.
        only: ask for the rewritten text only.

    Raises:
        ConfigError: no edit would be drawn.
    """
    if n_ideas < 1:
        raise ConfigError(f"instruction draws at least 1 edit for each request; got n_ideas = {n_ideas}")

    def compose(request: Request, artifact: Artifact) -> tuple[Message, ...]:
        asked = (
            direct_instruction(request, setting.goals, setting.seed, negative=False, only=False)
            if direct
            else f"{REWRITE}."
        )
        ideas = draw_ideas(request, artifact, n_ideas, setting.seed)
        listed = " Make these edits:\n" + "\n".join(f"- {i}" for i in ideas) + "\n" if ideas else ""
        closing = (NEGATIVE if negative else "") + (ONLY if only else "")
        return user(with_text(asked + listed + (closing.strip() if ideas else closing), request.text))

    traits = Traits(needs_context=1024, fits_on="chain-of-thought")
    return SinglePrompt(setting, compose, traits, learn=fit_edit_ideas)
