"""Strength as a budget: how many nats a token a coefficient costs, measured, so that vectors compare at equal push.

The curve is KL(steered || unsteered), mean over all tokens of answers that the unsteered model gave, each token after
the unsteered words before it (teacher forcing). For a small coefficient c it grows with c squared (the Fisher metric of
the direction), which is why points are sought on the square root. A vector at several layers needs care: a `kl`
strength is looked up for each vector on its own curve, and budgets spent at several layers do not add up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from steer_core.generation.backend import Backend
from steer_core.generation.forced import diverge_all
from steer_core.steering.intervention import Intervention
from steer_core.steering.plan import Plan
from steer_core.steering.vector import SteeringVector
from steer_core.tables.errors import SteerworksError

#: Bumped when the same measurements give other curves.
VERSION = "1"
#: Rounds of the search for a budget; each at least halves the bracket once there is one.
MOST_ROUNDS = 40


def kl_curve(
    backend: Backend,
    plans: Sequence[Plan],
    vector: SteeringVector,
    coefficients: Sequence[float],
    continuations: Sequence[str],
    *,
    positions: str = "all",
    batch_size: int = 32,
) -> tuple[tuple[float, float], ...]:
    """Mean KL from the unsteered model at each coefficient.

    Args:
        backend: holds the vector, and can compare steered with unsteered.
        plans: unsteered plans.
        vector: what is calibrated.
        coefficients: what the operator scales with; 0 costs nothing and is left out.
        continuations: what the unsteered model answered, one a plan.
        positions: selector over absolute positions.
        batch_size: rows in one pass; rows of all coefficients share batches.

    Returns:
        (coefficient, nats a token) in rising order: what `SteeringVector.kl_curve` holds.

    Raises:
        SteerworksError: there is no plan, a plan steers already, or the backend cannot hold steered against unsteered.
    """
    if not plans or any(p.interventions for p in plans):
        raise SteerworksError("a KL curve is measured on unsteered plans with their unsteered answers; give some")
    wanted = sorted({float(c) for c in coefficients} - {0.0})
    steered = [
        replace(p, interventions=(_step(vector, coefficient, positions),)) for coefficient in wanted for p in plans
    ]
    nats = diverge_all(steered, list(continuations) * len(wanted), backend, batch_size)
    per = len(plans)
    return tuple(
        (c, float(np.mean(np.concatenate([np.asarray(k) for k in nats[n * per : (n + 1) * per]]))))
        for n, c in enumerate(wanted)
    )


def calibrate_kl(
    backend: Backend,
    plans: Sequence[Plan],
    vector: SteeringVector,
    budgets: Sequence[float],
    continuations: Sequence[str],
    *,
    start: float = 1.0,
    tolerance: float = 0.02,
    positions: str = "all",
    batch_size: int = 32,
) -> SteeringVector:
    """The vector with a curve that reaches each budget, by a point at most `tolerance` above it, on its sign's side.

    A point a little below a budget would leave it beyond the end of the curve.

    Each budget is bracketed by growing steps, then sought by regula falsi on the square root of the KL, where the curve
    is nearly straight; a step that stalls is replaced by bisection.

    Args:
        backend: holds the vector, and can compare steered with unsteered.
        plans: unsteered plans.
        vector: what is calibrated; points of its curve are kept and used.
        budgets: nats a token, signed: the sign chooses the side, as in a strength of unit `kl`.
        continuations: what the unsteered model answered, one a plan.
        start: first coefficient tried on a side without a curve.
        tolerance: how far above its budget the point found may lie, as a share of it.
        positions: selector over absolute positions.
        batch_size: rows in one pass.

    Raises:
        SteerworksError: a budget is out of reach: more steering does not cost more (a map that is clamped).
    """
    curve = dict(vector.kl_curve)

    def measure(coefficient: float) -> float:
        if coefficient not in curve:
            curve.update(
                kl_curve(
                    backend, plans, vector, [coefficient], continuations, positions=positions, batch_size=batch_size
                )
            )
        return curve[coefficient]

    for budget in sorted({float(b) for b in budgets} - {0.0}, key=abs):
        _seek(measure, curve, budget, start, tolerance, vector)
    return replace(vector, kl_curve=tuple(sorted(curve.items())))


def _seek(
    measure: Callable[[float], float],
    curve: Mapping[float, float],
    budget: float,
    start: float,
    tolerance: float,
    vector: SteeringVector,
) -> None:
    """Measure points until one lies on the budget or above it by no more than the tolerance."""
    sign, wanted = float(np.sign(budget)), abs(budget)
    side = {abs(c): k for c, k in curve.items() if c * sign > 0}
    low = max((c for c, k in side.items() if k < wanted), default=0.0)
    high = min((c for c, k in side.items() if k >= wanted and c > low), default=None)
    for _ in range(MOST_ROUNDS):
        if any(wanted <= k <= (1.0 + tolerance) * wanted for k in side.values()):
            return
        if high is None:
            at = 2.0 * low if low else abs(start)
        else:
            # straight line in sqrt(KL), kept off the ends of the bracket
            root_low, root_high = np.sqrt(side.get(low, 0.0)), np.sqrt(side[high])
            # aimed at the middle of what is accepted: nearly straight is not straight
            aim = np.sqrt((1.0 + tolerance / 2.0) * wanted)
            share = float((aim - root_low) / (root_high - root_low)) if root_high > root_low else 0.5
            at = low + float(np.clip(share, 0.1, 0.9)) * (high - low)
        side[at] = measure(sign * at)
        if side[at] < wanted:
            low = at
        else:
            high = at
    raise SteerworksError(
        f"a KL budget of {wanted:g} nats a token is out of reach for the vector of {vector.concept!r} at layer "
        f"{vector.layer}: {sign * max(side):.3g} times it costs {side[max(side)]:.3g}. Ask for a smaller budget"
    )


def _step(vector: SteeringVector, coefficient: float, positions: str) -> Intervention:
    return Intervention(vector.operator, vector.id, vector.layer, coefficient, vector.site, positions)
