"""A method where there is no text to rewrite: the settings that a cell is profiled in.

What a method does for a request on the probe, it does here to any prompt: the very same vectors at the very same
strengths, the same adapter. The request is a move from the middle of each goal. What the strategy says in words stands
as a system prompt in front, for the prompt itself asks for something else than a rewrite.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from schemas.digest import canonical_json, digest_json
from schemas.evaluation import HEADLINE
from schemas.profiles import PLAIN, ProfileArms
from steer_core.generation.forced import FORCED
from steer_core.methods.part import Arm, Composed, arms_of, parts_of
from steer_core.methods.prompts.single import SinglePrompt
from steer_core.methods.protocol import Artifact, GoalTarget, Method, Request
from steer_core.steering.plan import Plan
from steer_core.tables.errors import SteerworksError

#: Bumped when the same method gives other settings.
VERSION = "2"
#: Where a request starts on every goal.
MIDDLE = 0.5


def why_not_profiled(method: Method) -> str | None:
    """Why a method has no profile of its own, in words; None where it has one."""
    if not method.traits.calls_model:
        return "it calls no model"
    base = method.base if isinstance(method, Composed) else method
    if not isinstance(base, SinglePrompt):
        return "its strategy asks several times, each time to rewrite a text: there is none here"
    if base.standing is None:
        return "what its prompt says cannot be said without a text to rewrite"
    for part in parts_of(method):
        if not part.stands:
            return f"its part {part.label!r} holds a rewrite against another rewrite: there is none here"
    return None


def profile_arms(
    method: Method, artifact: Artifact, asked: Sequence[Mapping[str, float]], goals: Sequence[str]
) -> pl.DataFrame:
    """The settings in which a cell is profiled.

    Args:
        method: the cell's method, of which `why_not_profiled` knows nothing.
        artifact: what it has learnt.
        asked: requests, goal -> move from the middle.
        goals: axes of the goal space, in order.

    Returns:
        Rows of `profile_arms`: the model as it is; for each request the method as it is used (unless it does nothing
        whatever is asked), and at each of its further settings.

    Raises:
        SteerworksError: the artifact lacks what a part needs.
    """
    rows = [_row("the model as it is", PLAIN, {}, Plan("", FORCED, text=""), "", None, "")]
    for moves in asked:
        request = Request(
            digest_json(dict(moves)),
            "",
            tuple(GoalTarget(g, MIDDLE, MIDDLE + moves[g] if g in moves else None) for g in goals),
        )
        words = ", ".join(f"{goal} {move:+g}" for goal, move in moves.items())
        settings: list[tuple[Arm | None, Method]] = [(None, method)]
        if isinstance(method, Composed):
            settings += [(arm, method.at(arm)) for arm in arms_of(method, artifact)]
        # strengths of two parts are no one curve
        several = len({arm.part for arm, _ in settings if arm is not None}) > 1
        for arm, there in settings:
            plan, said = _done(there, request, artifact)
            if not (isinstance(method, Composed) or said):
                continue  # the plain rewrite: the model as it is
            label = words if arm is None else f"{words}, {arm.label}"
            role = "request" if arm is None else "arm"
            position, axis = (None, "") if arm is None else (arm.position, arm.axis)
            if arm is not None and several:
                label, axis = f"{label} of {arm.part}", f"{arm.part}: {axis}"
            probe_arm = HEADLINE if arm is None else arm.arm_id
            rows.append(_row(label, role, moves, plan, said, position, axis, probe_arm))
    return pl.DataFrame(rows, schema=ProfileArms.dtypes(), orient="row").unique("arm_id", maintain_order=True)


def behavior_arms(
    arms: pl.DataFrame,
    behaviors: Sequence[str],
    strengths: Sequence[float],
    pairs: Sequence[tuple[str, str]] = (),
) -> pl.DataFrame:
    """Swept vectors of behaviors as settings of a cell, alone and two at once.

    Args:
        arms: rows of `sweep_arms`.
        behaviors: which are profiled alone; one without arms is of a cell that is not swept, and gets none.
        strengths: at which strengths; none: the two ends of the sweep.
        pairs: two behaviors each whose vectors act together, both at the same strength.

    Returns:
        Rows of `profile_arms`: the part's own layers, positions and seed, which the sweep lists first.

    Raises:
        SteerworksError: a strength is none of the sweep's; names those it has.
    """
    rows = []
    for behavior in behaviors:
        for row in _swept(arms, behavior, strengths):
            said = f"{behavior} at {row['strength']:+g}"
            rows.append(_behavior_row("behavior", said, behavior, row["system"], json.loads(row["interventions"]), row))
    for one, other in pairs:
        first, second = _swept(arms, one, strengths), {r["strength"]: r for r in _swept(arms, other, strengths)}
        for row in first:
            beside = second.get(row["strength"])
            if beside is None:
                continue  # a pair is of one strength, and the ends of two sweeps may differ
            steps = [*json.loads(row["interventions"]), *json.loads(beside["interventions"])]
            said = f"{one} and {other} at {row['strength']:+g}"
            rows.append(_behavior_row("pair", said, [one, other], None, steps, row))
    return pl.DataFrame(rows, schema=ProfileArms.dtypes(), orient="row").unique("arm_id", maintain_order=True)


def _swept(arms: pl.DataFrame, behavior: str, strengths: Sequence[float]) -> list[dict[str, Any]]:
    """The arms of a behavior's vector, as the part itself steers, at those strengths or the two ends."""
    own = arms.filter(pl.col("behavior") == behavior, pl.col("role") == "vector")
    if not own.height:
        return []
    first = own.row(0, named=True)
    own = own.filter(*(pl.col(c) == first[c] for c in ("layers", "positions", "seed"))).sort("strength")
    known = own["strength"].to_list()
    if odd := [s for s in strengths if s not in known]:
        raise SteerworksError(
            f"profiled.strengths: {odd[0]:+g} is no strength that behavior {behavior!r} is swept at; there are "
            f"{', '.join(f'{s:+g}' for s in known)}"
        )
    wanted = list(strengths) or [known[0], known[-1]]
    return own.filter(pl.col("strength").is_in(wanted)).to_dicts()


def _behavior_row(
    role: str, label: str, of: str | list[str], system: str | None, steps: list[Any], row: Mapping[str, Any]
) -> tuple[object, ...]:
    return (
        digest_json([role, of, system, steps, None, []]), label, role, canonical_json({role: of}), row["strength"],
        f"strength ({row['unit']})", system, canonical_json(steps), None, "[]", None,
    )  # fmt: skip


def _done(method: Method, request: Request, artifact: Artifact) -> tuple[Plan, str]:
    """What a method does to a plan that does nothing yet, and what it says in front."""
    base = method.base if isinstance(method, Composed) else method
    assert isinstance(base, SinglePrompt)
    assert base.standing is not None  # `why_not_profiled` was asked
    plan = Plan("", FORCED, text="")
    return (method.applied(plan, request, artifact) if isinstance(method, Composed) else plan), base.standing(request)


def _row(
    label: str,
    role: str,
    asked: Mapping[str, float],
    plan: Plan,
    said: str,
    position: float | None,
    axis: str,
    probe_arm: str | None = None,
) -> tuple[object, ...]:
    steps = [i.to_dict() for i in plan.interventions]
    rules = [e.to_dict() for e in plan.extensions]
    arm_id = PLAIN if role == PLAIN else digest_json([role, label, said, steps, plan.adapter, rules])
    return (
        arm_id, label, role, canonical_json(dict(asked)), position, axis, said or None,
        canonical_json(steps), plan.adapter, canonical_json(rules), probe_arm,
    )  # fmt: skip
