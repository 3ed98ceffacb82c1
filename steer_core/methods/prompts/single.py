"""What strategies of one prompt and one answer share. Not a strategy itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from steer_core.methods.cleaning import clean_answer
from steer_core.methods.protocol import Artifact, Choose, FitResponse, Observation, Request, Setting, Traits
from steer_core.steering.plan import Message, Plan


@dataclass(frozen=True)
class SinglePrompt:
    """Ask once, take the answer.

    Attributes:
        setting: model, goals, decoding, seed.
        compose: turns of the conversation for a request.
        traits: what it needs.
        extract: answer in a raw text, and whether it had the form asked for.
        learn: fits the artifact from the training pool.
        standing: what it says of a request in front of prompts that have no text to rewrite, empty where it says
            nothing; None: it cannot be said without one.
    """

    setting: Setting
    compose: Callable[[Request, Artifact], tuple[Message, ...]]
    traits: Traits = field(default_factory=Traits)
    extract: Callable[[str], tuple[str, bool]] = lambda raw: (clean_answer(raw), True)
    learn: Callable[[tuple[FitResponse, ...]], Artifact] = lambda responses: Artifact()
    standing: Callable[[Request], str] | None = None

    def fit(self, responses: tuple[FitResponse, ...]) -> Artifact:
        """What `learn` finds; most strategies learn nothing."""
        return self.learn(responses)

    def plan(self, request: Request, artifact: Artifact) -> Plan:
        """The one plan of a request."""
        return Plan(self.setting.model, self.setting.decoding, messages=self.compose(request, artifact))

    def step(self, request: Request, artifact: Artifact, history: tuple[Observation, ...]) -> tuple[Plan, ...] | Choose:
        """One plan, then its answer."""
        return Choose(history[0].response_id) if history else (self.plan(request, artifact),)

    def clean(self, raw: str) -> tuple[str, bool]:
        """The answer in a raw text."""
        return self.extract(raw)


def user(content: str) -> tuple[Message, ...]:
    """A conversation of one user turn."""
    return (Message("user", content),)
