"""The two verbs of a backend, and what it states about itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from schemas.digest import digest_json
from steer_core.steering.plan import Plan


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
    """What came back for a call."""

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
    """

    name: str
    max_context: int | None
    scores: bool


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
