"""Doses of a vector part: kept in the artifact with their coefficients, and read back at a strength."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import polars as pl

from schemas.vector_part import VectorPart
from steer_core.methods.doses import DoseCurve, is_anchored
from steer_core.methods.protocol import Artifact, Item
from steer_core.steering.compose import interventions
from steer_core.steering.intervention import Gate, Intervention
from steer_core.steering.strength import Strength
from steer_core.steering.vector import SteeringVector


def clipped(curve: DoseCurve, strength: float) -> float:
    """A strength within those that were tried: what lies beyond is not known to leave answers whole."""
    tried = curve.strengths or (0.0,)
    return min(max(strength, min(tried)), max(tried))


def at(stored: Sequence[Mapping[str, Any]], strengths: Sequence[float], strength: float) -> list[Intervention]:
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
    label: str = "vector",
) -> Artifact:
    """The artifact with a dose of this part for each goal.

    Args:
        fitted: what was fitted so far.
        part: the vector part.
        vectors: goal -> its vectors.
        dose_response: rows of `dose_response`.
        gate: condition on the row's prompt.
        label: of the part.
    """
    items = list(fitted.items)
    for goal, of_goal in vectors.items():
        curve = DoseCurve.of(dose_response, goal, is_anchored(of_goal, part.unit))
        steps = [_steps(of_goal, s, part, gate, off=curve.anchored and s == 0.0) for s in curve.strengths]
        stored = [
            {"intervention": step.to_dict(), "coefficients": [s[k].coefficient for s in steps]}
            for k, step in enumerate(steps[0] if steps else ())
        ]
        fitted_to = dose_response.filter(pl.col("goal") == goal)
        prompt = fitted_to.select("prompt_intercept", "prompt_slope", "prompt_start").row(0)
        share, floor = fitted_to.select("share", "floor").row(0)
        body = {
            "strengths": list(curve.strengths),
            "moves": list(curve.moves),
            "anchored": curve.anchored,
            "unit": part.unit,
            "prompt": list(prompt),
            "share": share,
            "floor": floor,
            "interventions": stored,
        }
        items.append(Item("dose", body, goal, part=label))
    return Artifact(tuple(items))


def _steps(
    vectors: Sequence[SteeringVector], strength: float, part: VectorPart, gate: Gate | None, *, off: bool
) -> list[Intervention]:
    """The interventions at a strength; at the strength that is off they have coefficient 0, to interpolate from."""
    if off:
        return [Intervention(v.operator, v.id, v.layer, 0.0, v.site, part.positions, gate) for v in vectors]
    return list(interventions(vectors, Strength(strength, part.unit), positions=part.positions, gate=gate))
