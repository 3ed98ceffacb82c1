"""A prompt with vectors: the vectors make up for what the prompt leaves of a request.

For each active goal with requested move r of a text at z0, the prompt by itself moves a + b r + c z0 (fitted on the
training pool); the vector is asked for the rest, and the goal's dose-response curve says which strength gives it.
Vector-only methods have the unsteered rewrite as their prompt, so b is near 0 there and the vector does all the work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from schemas.specs import VectorPart
from steer_core.methods.dose_response import DoseCurve, is_anchored
from steer_core.methods.prompts.single import SinglePrompt
from steer_core.methods.protocol import Artifact, Choose, FitResponse, Item, Observation, Request, Traits
from steer_core.steering.compose import interventions
from steer_core.steering.intervention import Gate, Intervention
from steer_core.steering.plan import Plan
from steer_core.steering.strength import Strength
from steer_core.steering.vector import SteeringVector
from steer_core.tables.errors import SteerworksError

#: Strengths smaller than this share of the largest usable one are left off: they would change nothing but tokens.
LEAST = 0.02


@dataclass(frozen=True)
class Steered:
    """A prompt strategy with a vector part.

    Attributes:
        base: strategy of one prompt and one answer.
        part: the vector part.
        traits: as the base, fitted on the answers of the direct prompt to the training pool.
    """

    base: SinglePrompt
    part: VectorPart
    traits: Traits

    def fit(self, responses: tuple[FitResponse, ...]) -> Artifact:
        """What the prompt part fits; vectors and doses are added by `with_doses`."""
        return self.base.fit(responses)

    def step(self, request: Request, artifact: Artifact, history: tuple[Observation, ...]) -> tuple[Plan, ...] | Choose:
        """The base's plan with the request's interventions."""
        step = self.base.step(request, artifact, history)
        if isinstance(step, Choose):
            return step
        applied = self.interventions(request, artifact)
        return tuple(replace(plan, interventions=applied) for plan in step)

    def clean(self, raw: str) -> tuple[str, bool]:
        """As the base strategy."""
        return self.base.clean(raw)

    def interventions(self, request: Request, artifact: Artifact) -> tuple[Intervention, ...]:
        """What a request's moves take, goal by goal in the order of the goal space.

        Raises:
            SteerworksError: the artifact knows no dose of a goal that is asked for.
        """
        doses = {i.goal: i.body for i in artifact.items if i.kind == "dose"}
        chosen: list[tuple[Mapping[str, Any], DoseCurve, float]] = []
        for target in request.active:
            if target.goal not in doses:
                raise SteerworksError(
                    f"no dose of goal {target.goal!r} is known: fit the vectors and measure their dose-response first"
                )
            dose = doses[target.goal]
            intercept, asked, start = dose["prompt"]
            curve = DoseCurve(tuple(dose["strengths"]), tuple(dose["moves"]), dose["anchored"])
            strength = curve.strength_for(target.delta - intercept - asked * target.delta - start * target.z0)
            if strength is not None:
                chosen.append((dose, curve, strength))
        # doses were tried one at a time: together they may use up what one may use alone
        spent = sum(curve.share(strength) for _, curve, strength in chosen)
        applied: list[Intervention] = []
        for dose, curve, strength in chosen:
            kept = strength / max(spent, 1.0) if curve.anchored else strength
            if not curve.anchored or curve.share(kept) >= LEAST:
                applied += _at(dose["interventions"], dose["strengths"], kept)
        return tuple(applied)


def _at(stored: Sequence[Mapping[str, Any]], strengths: Sequence[float], strength: float) -> list[Intervention]:
    """The stored interventions with the coefficient of a strength, interpolated as the units are (piecewise linear)."""
    found = []
    for body in stored:
        coefficient = _interpolate(strengths, body["coefficients"], strength)
        found.append(replace(Intervention.from_dict(body["intervention"]), coefficient=coefficient))
    return found


def _interpolate(xs: Sequence[float], ys: Sequence[float], x: float) -> float:
    import numpy as np

    # rounded, so that a last digit of another machine's arithmetic makes no other plan
    return round(float(np.interp(x, xs, ys)), 6)


def with_doses(
    fitted: Artifact,
    part: VectorPart,
    vectors: Mapping[str, Sequence[SteeringVector]],
    dose_response: pl.DataFrame,
    gate: Gate | None = None,
) -> Artifact:
    """The prompt's artifact with a dose for each goal.

    Args:
        fitted: what the prompt part fitted.
        part: the vector part.
        vectors: goal -> its vectors.
        dose_response: rows of `dose_response`.
        gate: condition on the row's prompt.
    """
    items = list(fitted.items)
    for goal, of_goal in vectors.items():
        curve = DoseCurve.of(dose_response, goal, is_anchored(of_goal, part.unit))
        steps = [_steps(of_goal, s, part, gate, off=curve.anchored and s == 0.0) for s in curve.strengths]
        stored = [
            {"intervention": step.to_dict(), "coefficients": [s[k].coefficient for s in steps]}
            for k, step in enumerate(steps[0] if steps else ())
        ]
        prompt = (
            dose_response.filter(pl.col("goal") == goal)
            .select("prompt_intercept", "prompt_slope", "prompt_start")
            .row(0)
        )
        body = {
            "strengths": list(curve.strengths),
            "moves": list(curve.moves),
            "anchored": curve.anchored,
            "unit": part.unit,
            "prompt": list(prompt),
            "interventions": stored,
        }
        items.append(Item("dose", body, goal))
    return Artifact(tuple(items))


def _steps(
    vectors: Sequence[SteeringVector], strength: float, part: VectorPart, gate: Gate | None, *, off: bool
) -> list[Intervention]:
    """The interventions at a strength; at the strength that is off they have coefficient 0, to interpolate from."""
    if off:
        return [Intervention(v.operator, v.id, v.layer, 0.0, v.site, part.positions, gate) for v in vectors]
    return list(interventions(vectors, Strength(strength, part.unit), positions=part.positions, gate=gate))
