"""The verbs of a backend, and what it states about itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from schemas.digest import digest_json
from steer_core.steering.plan import Plan
from steer_core.tables.errors import SteerworksError

#: What a plan can be asked for.
Verb = Literal["generate", "score", "diverge"]


@dataclass(frozen=True)
class Call:
    """One row to generate: a plan, which of its samples, and the seed of its sampling."""

    plan: Plan
    sample_index: int
    seed: int

    def response_id(self, execution: str) -> str:
        """Key of the response: plan, sample index, seed and execution fingerprint."""
        return digest_json([self.plan.id, self.sample_index, self.seed, execution])


@dataclass(frozen=True)
class Generation:
    """What came back for a call.

    Attributes:
        raw: the text, as it was written.
        finish_reason: `stop`, `length`, or `overlong`: the prompt left no room.
        prompt_tokens, completion_tokens: tokens read and written.
        seconds: share of the batch's time.
        receipt: `Receipt` of the plan's interventions as JSON; None without any.
    """

    raw: str
    finish_reason: Literal["stop", "length", "overlong"]
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    receipt: str | None = None


@dataclass(frozen=True)
class Capabilities:
    """What a backend can execute; a plan beyond it is refused by name before anything runs.

    Attributes:
        name: how the backend is called in messages.
        max_context: tokens of prompt and answer; None: not known.
        scores: whether it returns log-probabilities of given continuations.
        interventions: whether it can change activations.
        diverges: whether it returns the KL divergence of steered from unsteered.
    """

    name: str
    max_context: int | None
    scores: bool
    interventions: bool = False
    diverges: bool = False

    def refuse(self, plan: Plan, verb: Verb = "generate") -> None:
        """Refuse a plan that the backend cannot execute; does nothing for one that it can.

        Raises:
            SteerworksError: names the backend and what it cannot do.
        """
        if plan.interventions and not self.interventions:
            raise SteerworksError(f"{self.name} backend cannot apply interventions; use transformers or vllm")
        if verb == "score" and not self.scores:
            raise SteerworksError(f"{self.name} backend cannot score continuations; use transformers")
        if verb == "diverge" and not self.diverges:
            raise SteerworksError(f"{self.name} backend cannot measure divergence from unsteered; use transformers")


class Backend(Protocol):
    """Generates and scores plans in batches."""

    @property
    def capabilities(self) -> Capabilities:
        """What it can execute."""
        ...

    @property
    def execution(self) -> str:
        """Execution fingerprint: everything outside the plan that may change an answer."""
        ...

    def prompt_tokens(self, plan: Plan) -> int:
        """Tokens that the plan's prompt takes."""
        ...

    def generate(self, calls: Sequence[Call]) -> list[Generation]:
        """Answers of one batch of calls that share a decoding, in their order."""
        ...

    def score(self, plans: Sequence[Plan], continuations: Sequence[str]) -> list[list[float]]:
        """Log-probability (nats) of each token of each continuation after its plan's prompt."""
        ...

    def diverge(self, plans: Sequence[Plan], continuations: Sequence[str]) -> list[list[float]]:
        """KL divergence (nats) of the steered next-token distribution from the unsteered one, token by token.

        Each continuation is read after its plan's prompt; the numbers stand where `score` has the log-probabilities.
        """
        ...
