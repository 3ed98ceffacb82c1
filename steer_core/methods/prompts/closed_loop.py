"""Measure the answer, say what is left to do, ask again: steering by feedback."""

from __future__ import annotations

from dataclasses import dataclass, replace

from steer_core.methods.distance import error_of, usable
from steer_core.methods.prompts.single import SinglePrompt
from steer_core.methods.protocol import (
    Artifact,
    Choose,
    FitResponse,
    GoalTarget,
    Method,
    Observation,
    Request,
    Setting,
    Traits,
)
from steer_core.steering.plan import Plan
from steer_core.tables.errors import ConfigError


@dataclass(frozen=True)
class ClosedLoop:
    """Ask, measure, ask for what is left, up to `rounds` times; the attempt with the least error is chosen.

    Each retry starts from the best attempt so far and asks for the moves that are still missing there: goals that
    drifted although nobody asked are asked back.

    Attributes:
        base: strategy that writes the prompt and reads the answers.
        rounds: most calls.
        tolerance: a goal this near its target (in goal-space units) is not asked for again.
        traits: `rounds` calls, measuring.
    """

    base: SinglePrompt
    rounds: int
    tolerance: float
    traits: Traits

    def fit(self, responses: tuple[FitResponse, ...]) -> Artifact:
        """As the base strategy."""
        return self.base.fit(responses)

    def step(self, request: Request, artifact: Artifact, history: tuple[Observation, ...]) -> tuple[Plan, ...] | Choose:
        """The next attempt, or the best one."""
        if not history:
            return (self.base.plan(request, artifact),)
        best = min(history, key=lambda o: error_of(request, o.z) if usable(o, request) else float("inf"))
        remaining = self.remaining(request, best) if usable(best, request) else request
        # greedy decoding would only give the same answer to the same prompt again
        asked = self.base.plan(remaining, artifact)
        if not remaining.active or len(history) >= self.rounds or any(o.plan == asked for o in history):
            return Choose(best.response_id)
        return (asked,)

    def remaining(self, request: Request, attempt: Observation) -> Request:
        """The request that is left at an attempt: from its text and position to the same targets."""
        goals = []
        for target in request.goals:
            now = (attempt.z or {}).get(target.goal)
            wanted = target.z0 if target.z_star is None else target.z_star
            if now is None:
                goals.append(replace(target, z_star=None))
            else:
                near = abs(wanted - now) <= self.tolerance
                goals.append(GoalTarget(target.goal, now, None if near else wanted))
        return Request(request.request_id, attempt.text, tuple(goals))

    def clean(self, raw: str) -> tuple[str, bool]:
        """As the base strategy."""
        return self.base.clean(raw)


def build(
    setting: Setting, *, rounds: int = 3, tolerance: float = 0.1, base: str = "direct", **options: object
) -> Method:
    """Closed loop.

    Args:
        setting: model, goals, decoding, seed.
        rounds: most calls for a request.
        tolerance: distance in goal space below which a goal counts as reached.
        base: strategy of the prompt.
        options: options of the base strategy.
    """
    from steer_core.methods.parts.prompt import build_strategy

    if rounds < 2:
        raise ConfigError(f"closed-loop needs at least 2 rounds, got {rounds}")
    if tolerance < 0:
        raise ConfigError(f"closed-loop: tolerance is a distance, at least 0; got {tolerance}")
    inner = build_strategy(base, setting, options)
    if not isinstance(inner, SinglePrompt):
        raise ConfigError(f"closed-loop: {base!r} is no strategy of one prompt")
    traits = replace(inner.traits, max_calls=rounds, measures=True)
    return ClosedLoop(inner, rounds, tolerance, traits)
