"""Control: the source text, returned unchanged. It calls no model and its scores have a closed form."""

from __future__ import annotations

from dataclasses import dataclass, field

from steer_core.methods.protocol import Artifact, Choose, FitResponse, Observation, Request, Setting, Traits
from steer_core.steering.plan import Plan


@dataclass(frozen=True)
class Copy:
    """Chooses the source at once; bypasses cleaning."""

    traits: Traits = field(default_factory=lambda: Traits(max_calls=0, calls_model=False))

    def fit(self, responses: tuple[FitResponse, ...]) -> Artifact:
        """Nothing to fit."""
        return Artifact()

    def step(self, request: Request, artifact: Artifact, history: tuple[Observation, ...]) -> tuple[Plan, ...] | Choose:
        """The source itself."""
        return Choose(text=request.text, finish_reason="source")

    def clean(self, raw: str) -> tuple[str, bool]:
        """The text as it stands."""
        return raw, True


def build(setting: Setting) -> Copy:
    """The control takes no options."""
    return Copy()
