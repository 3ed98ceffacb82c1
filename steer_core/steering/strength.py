"""How strongly: a value with a unit, and what it means for a given vector."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from schemas.vector_part import Unit
from steer_core.steering.operators import load_operator
from steer_core.steering.vector import SteeringVector
from steer_core.tables.errors import SteerworksError


@dataclass(frozen=True)
class Strength:
    """A value with its unit; `None` in place of a strength means off: equal to unsteered, token for token."""

    value: float
    unit: Unit = "raw"


def coefficient(strength: Strength, vector: SteeringVector) -> float:
    """What the operator scales with.

    `raw` is the coefficient itself. `class_alpha` a moves the grand mean to the point a of the way from the mean of the
    opposite (0) to the mean of the concept (1): a - p, with p the share of positive examples (Marshall et al. 2024,
    where affine editing with a equals projection plus a - p). A map whose coefficient 0 lies elsewhere says so in the
    scalar `alpha_at_zero`, which then stands for p. `residual_fraction` f is f |h| / |v| with |h| the mean
    activation norm. `angle` is in degrees and passes through. `kl` is looked up on the vector's measured curve, the
    sign choosing the side.

    Raises:
        SteerworksError: the vector lacks what the unit needs, or the operator does not know it.
    """
    units = load_operator(vector.operator).units
    if strength.unit not in units and strength.unit != "kl":
        raise SteerworksError(
            f"unit {strength.unit!r} does not fit operator {vector.operator!r}, to which {', '.join(sorted(units))} "
            "and kl mean something"
        )
    match strength.unit:
        case "raw" | "angle":
            return strength.value
        case "class_alpha":
            known = "alpha_at_zero" if "alpha_at_zero" in vector.scalars else "positive_share"
            return strength.value - _scalar(vector, known, strength.unit)
        case "residual_fraction":
            if not vector.norm:
                raise SteerworksError(
                    f"unit 'residual_fraction' needs a direction, and that of {vector.concept!r} is 0 long"
                )
            return strength.value * _scalar(vector, "residual_norm", strength.unit) / vector.norm
        case "kl":
            return _from_curve(strength.value, vector)


def _scalar(vector: SteeringVector, name: str, unit: str) -> float:
    if name not in vector.scalars:
        raise SteerworksError(
            f"unit {unit!r} needs {name!r}, which the vector of {vector.concept!r} ({vector.estimator}) does not know: "
            "use `raw`, or fit it on contrast examples"
        )
    return vector.scalars[name]


def _from_curve(value: float, vector: SteeringVector) -> float:
    side = sorted((abs(c), k) for c, k in vector.kl_curve if c * value > 0)
    if not side:
        raise SteerworksError(
            f"unit 'kl' needs a measured curve, and the vector of {vector.concept!r} has none on that side: "
            "calibrate it with `steer_core.vectors.budget.calibrate_vectors`"
        )
    coefficients = np.array([0.0, *(c for c, _ in side)])
    # more steering may measure a little less: the smallest coefficient that spends the budget counts
    spent = np.maximum.accumulate(np.array([0.0, *(k for _, k in side)]))
    if abs(value) > spent[-1]:
        raise SteerworksError(
            f"a KL budget of {abs(value):g} nats a token lies beyond the measured curve of {vector.concept!r}, which "
            f"ends at {spent[-1]:.3g}: calibrate over larger coefficients"
        )
    at = int(np.searchsorted(spent, abs(value), side="left"))
    share = (abs(value) - spent[at - 1]) / (spent[at] - spent[at - 1]) if at else 0.0
    found = coefficients[at - 1] + share * (coefficients[at] - coefficients[at - 1]) if at else 0.0
    return float(np.sign(value) * found)
