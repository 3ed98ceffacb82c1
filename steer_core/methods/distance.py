"""How far an attempt is from its target: the distance that the report uses, for methods that measure their attempts."""

from __future__ import annotations

import math
from collections.abc import Mapping

from steer_core.evaluation.refusals import is_refusal
from steer_core.methods.protocol import Observation, Request


def error_of(request: Request, z: Mapping[str, float | None] | None) -> float:
    """Steering error |z* - zh| with inactive targets at the source; infinite where a goal is undefined.

    Chang et al. (2025) fill inactive targets with -1 before they pick the best of n, which rewards pushing untouched
    goals down; this is the distance that the report uses.
    """
    total = 0.0
    for target in request.goals:
        reached = None if z is None else z.get(target.goal)
        if reached is None:
            return math.inf
        total += (reached - (target.z0 if target.z_star is None else target.z_star)) ** 2
    return math.sqrt(total)


def usable(attempt: Observation, request: Request) -> bool:
    """Whether an attempt is an answer at all: complete, in the form asked for, not blank and no refusal."""
    answered = attempt.finish_reason == "stop" and attempt.parsed and bool(attempt.text.strip())
    return answered and not is_refusal(attempt.text, request.text)
