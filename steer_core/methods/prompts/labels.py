"""Ask by a label string, as SteerLM does: `formality:7,sentiment:2`. For models that the recipe `steerlm` tuned."""

from __future__ import annotations

from steer_core.adapters.steerlm.asking import LabelPrompt
from steer_core.methods.prompts.single import SinglePrompt
from steer_core.methods.protocol import Artifact, GoalTarget, Request, Setting
from steer_core.steering.plan import Message
from steer_core.tables.errors import ConfigError, SteerworksError


def build(setting: Setting, *, levels: int = 10, keep: bool = False) -> SinglePrompt:
    """A label for each goal that is asked for; without an adapter, what the words of the labels alone do.

    Args:
        setting: model, goals, decoding, seed.
        levels: of each goal, 0 the lowest; 10 as in the SteerLM paper, 5 as in HelpSteer.
        keep: goals that nothing is asked of get the label of where the text stands, which says its measured start.

    Raises:
        ConfigError: fewer than two levels, or a goal whose name is no word of a label string.
    """
    if levels < 2:
        raise ConfigError(f"labels: an attribute has at least two levels; got levels = {levels}")
    prompt = LabelPrompt(tuple(setting.goals), levels)
    try:
        _ = prompt.attributes
    except ValueError as error:
        raise ConfigError(
            f"labels: a goal of {', '.join(setting.goals)} cannot stand in a label string: {error}"
        ) from error

    def label(target: GoalTarget) -> int | None:
        wanted = target.z0 if target.z_star is None and keep else target.z_star
        return None if wanted is None else prompt.level(target.goal, wanted)

    def compose(request: Request, _: Artifact) -> tuple[Message, ...]:
        try:
            return prompt.messages({t.goal: label(t) for t in request.goals}, request.text)
        except SteerworksError as error:
            raise SteerworksError(f"request {request.request_id}: {error}") from error

    return SinglePrompt(setting, compose)
