"""How a request is put into words: the single place that turns deltas into phrases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from schemas.digest import digest_text
from schemas.specs import GoalSpec
from steer_core.methods.protocol import GoalTarget, Request

#: |delta| below the first is "slightly", above the second "much" (Chang et al. 2025).
SLIGHTLY, MUCH = 0.2, 0.5

REWRITE = "Please rewrite the following text"
ONLY = " Answer with the rewritten text only."
STANDING_NEGATIVE = " Change nothing else about how you answer, even if the result sounds awkward."
NEGATIVE = " Change nothing else about the text, even if the result sounds awkward."


def row_rng(seed: int, request: Request, purpose: str) -> np.random.Generator:
    """A generator that belongs to one request and purpose, whatever else is in the run."""
    return np.random.default_rng(int(digest_text(f"{seed}:{purpose}:{request.request_id}")[:16], 16))


def phrase(target: GoalTarget, goal: GoalSpec) -> str:
    """One active goal as a comparative: `slightly more formal`. A delta of 0 asks for no change."""
    if target.delta == 0:
        return f"unchanged in {goal.noun}"
    size = abs(target.delta)
    strength = "slightly " if size < SLIGHTLY else "much " if size > MUCH else ""
    return strength + (goal.more if target.delta > 0 else goal.less)


def join(parts: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def wishes(request: Request, goals: Mapping[str, GoalSpec], seed: int) -> str:
    """All active goals in words, in an order drawn for this request; `as it is` when nothing is asked."""
    parts = [phrase(t, goals[t.goal]) for t in request.active]
    if not parts:
        return "as it is"
    order = row_rng(seed, request, "order of goals").permutation(len(parts))
    return join([parts[i] for i in order])


def direct_instruction(
    request: Request, goals: Mapping[str, GoalSpec], seed: int, *, negative: bool, only: bool
) -> str:
    """The direct instruction, with or without the two additions."""
    verb = "is" if request.active else "stays"
    asked = f"{REWRITE} so that it {verb} {wishes(request, goals, seed)}."
    return asked + (NEGATIVE if negative else "") + (ONLY if only else "")


def standing_instruction(request: Request, goals: Mapping[str, GoalSpec], seed: int, *, negative: bool = False) -> str:
    """What a request asks for, said once and for all, in front of prompts that have no text to rewrite."""
    asked = f"Whatever you are asked, answer with a text that is {wishes(request, goals, seed)}."
    return asked + (STANDING_NEGATIVE if negative else "")


def with_text(instruction: str, text: str) -> str:
    """An instruction, a blank line, the source text."""
    return f"{instruction}\n\n{text}"
