"""Ask for a better text without saying in which way: what a model does when left to its habits."""

from __future__ import annotations

from steer_core.methods.prompts.single import SinglePrompt, user
from steer_core.methods.protocol import Artifact, Request, Setting
from steer_core.methods.wording import ONLY, row_rng, with_text
from steer_core.steering.plan import Message

WORDINGS = (
    "Please make the following text better.",
    "Please improve the following text.",
    "Could you polish the text below?",
    "Please edit the following text so that it works well.",
    "Make the most of the following text.",
    "Please give the text below another pass.",
    "How would you write the following text?",
    "Please revise the following text as you see fit.",
    "Bring the following text into its best shape.",
    "Please go over the text below and fix what bothers you.",
)


def build(setting: Setting, *, only: bool = True) -> SinglePrompt:
    """One of ten wordings, drawn for each request.

    Args:
        setting: model, goals, decoding, seed.
        only: ask for the rewritten text only.
    """

    def compose(request: Request, _: Artifact) -> tuple[Message, ...]:
        drawn = WORDINGS[int(row_rng(setting.seed, request, "underspecified").integers(len(WORDINGS)))]
        return user(with_text(drawn + (ONLY if only else ""), request.text))

    return SinglePrompt(setting, compose, standing=lambda _: "Whatever you are asked, answer as well as you can.")
