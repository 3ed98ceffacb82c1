"""Ask by labels, as SteerLM does: `formality:7,sentiment:2`, or in words; for models that recipe `steerlm` tuned."""

from __future__ import annotations

from steer_core.adapters.steerlm.asking import STRENGTHS, LabelPrompt, phrases_of
from steer_core.methods.prompts.single import SinglePrompt
from steer_core.methods.protocol import Artifact, GoalTarget, Request, Setting
from steer_core.steering.plan import Message
from steer_core.tables.errors import ConfigError, SteerworksError


def build(setting: Setting, *, levels: int | None = None, wording: str = "digits", keep: bool = False) -> SinglePrompt:
    """A label for each goal that is asked for; without an adapter, what the words of the labels alone do.

    Args:
        setting: model, goals, decoding, seed.
        levels: of each goal, 0 the lowest; 10 as in the SteerLM paper, 5 as in HelpSteer, 6 in words.
        wording: `digits`, or `words`: `much more formal` is the highest level, wherever the text stands.
        keep: goals that nothing is asked of get the label of where the text stands, which says its measured start.

    Raises:
        ConfigError: fewer than two levels, other levels than there are words for, a wording that there is not, or a
            goal whose name is no word of a label string.
    """
    if wording not in ("digits", "words"):
        raise ConfigError(f"labels: unknown wording {wording!r}; there are: digits, words")
    in_words = wording == "words"
    if levels is None:
        levels = len(STRENGTHS) if in_words else 10
    if levels < 2:
        raise ConfigError(f"labels: an attribute has at least two levels; got levels = {levels}")
    phrases = {name: phrases_of(g.less, g.more) for name, g in setting.goals.items()} if in_words else {}
    try:
        prompt = LabelPrompt(tuple(setting.goals), levels, phrases=phrases)
    except SteerworksError as error:
        raise ConfigError(f"labels: {error}") from error
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

    def standing(request: Request) -> str:
        return prompt.standing({t.goal: label(t) for t in request.goals})

    return SinglePrompt(setting, compose, standing=standing)
