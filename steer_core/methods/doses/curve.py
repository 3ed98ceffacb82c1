"""From measured moves to a monotone curve, and what the prompt makes of a request by itself.

1. A goal's own mean move is made monotone in strength (isotonic least squares, weighted by answers); where strength 0
   is off, through 0 at 0. Where it is a place like any other (`class_alpha`, `angle`), off is a choice of its own.
2. A strength at which more answers fail than unsteered is not usable; where 0 is off, neither is what lies beyond it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from steer_core.methods.protocol import Request

Floats = NDArray[np.float64]
#: Where the unsteered answers landed, by request; None for an answer that is none.
Unsteered = Mapping[str, Mapping[str, float | None] | None]

#: Answers from which it is said what the prompt alone makes of a request: one more than there are coefficients.
LEAST_FOR_PROMPT = 4


def fit_curve(own: list[dict[str, object]], *, anchored: bool) -> None:
    """Fill `fitted` of one goal's own rows of `dose_response`, and cut unusable strengths off.

    A vector may turn out to move its goal the other way; the curve then falls, and is used as it is.
    """
    tried = sorted((r for r in own if r["strength"] is not None), key=_strength)
    measured = [r for r in tried if r["move"] is not None]
    direction = 1.0
    if measured:
        doses, moves = np.array([_strength(r) for r in measured]), np.array([_moved(r) for r in measured])
        leaning = doses @ moves if anchored else (doses - doses.mean()) @ moves
        direction = 1.0 if leaning >= 0 else -1.0
    if not anchored:
        _fit_side(tried, direction)
        return
    for side in (-1.0, 1.0):
        rows = sorted((r for r in tried if _strength(r) * side > 0), key=lambda r: abs(_strength(r)))
        for before, row in pairwise(rows):
            # what lies beyond an unusable strength is not trusted either
            row["usable"] = bool(row["usable"]) and bool(before["usable"])
        _fit_side(rows, side * direction, least=0.0)


def _fit_side(rows: list[dict[str, object]], sign: float, least: float = -np.inf) -> None:
    for row in rows:
        row["usable"] = bool(row["usable"]) and row["move"] is not None
    usable = [r for r in rows if r["usable"]]
    moves = sign * np.array([_moved(r) for r in usable])
    for row, fitted in zip(usable, _isotonic(moves, np.array([float(str(r["n"])) for r in usable])), strict=True):
        row["fitted"] = sign * max(least, float(fitted))


def _strength(row: Mapping[str, object]) -> float:
    return float(str(row["strength"]))


def _moved(row: Mapping[str, object]) -> float:
    return float(str(row["move"]))


def _isotonic(values: Floats, weights: Floats) -> Floats:
    from scipy.optimize import isotonic_regression

    found: Floats = isotonic_regression(values, weights=weights).x if len(values) else values
    return found


def prompt_effect(goal: str, requests: Sequence[Request], unsteered: Unsteered) -> tuple[float, float, float]:
    """What the prompt alone makes of a request: intercept, and slopes on the move asked and on the start.

    Least squares on both: what is asked depends on where a text starts, and texts drift back from the ends whatever is
    asked. Without the start that drift would count as obedience.
    """
    rows, moved = [], []
    for request in requests:
        target = next(t for t in request.active if t.goal == goal)
        reached = unsteered[request.request_id]
        if reached is not None and reached.get(goal) is not None:
            rows.append((1.0, target.delta, target.z0))
            moved.append(float(reached[goal]) - target.z0)  # type: ignore[arg-type]
    if len(rows) < LEAST_FOR_PROMPT or len({asked for _, asked, _ in rows}) < 2:
        return (0.0, 0.0, 0.0)
    design = np.array(rows)
    middle = design[:, 2].mean()
    # starts that are all one say nothing of the start: centered, they get no part of the fit
    design[:, 2] -= middle
    intercept, asked, start = np.linalg.lstsq(design, np.array(moved), rcond=None)[0]
    return float(intercept - start * middle), float(asked), float(start)


def left_by_prompt(asked: float, z0: float, prompt: Sequence[float]) -> float:
    """What the prompt alone leaves of a move asked of a text at z0, by the coefficients of `prompt_effect`."""
    intercept, slope, start = prompt
    return asked - intercept - slope * asked - start * z0
