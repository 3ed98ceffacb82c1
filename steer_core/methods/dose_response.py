"""Dose and response: how far a vector's strength moves a goal, measured on the training pool, fitted, inverted.

1. Each goal's vector is applied at each strength to the same texts of the training pool under the method's own prompt.
2. A move is z at a strength minus z of the same plan unsteered: what the prompt does by itself is not counted.
3. The goal's own mean move is made monotone in strength (isotonic least squares, weighted by answers); where strength 0
   is off, through 0 at 0. Where it is a place like any other (`class_alpha`, `angle`), off is a choice of its own.
4. A strength at which more answers fail than unsteered is not usable; where 0 is off, neither is what lies beyond it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

from schemas.vector_part import Unit
from schemas.vectors import DoseResponse
from steer_core.generation.backend import Backend, Call
from steer_core.generation.runner import Progress, run_calls
from steer_core.methods.driver import Ruler, failure_of, sample_seed
from steer_core.methods.protocol import Artifact, Choose, Method, Request
from steer_core.statistics import clustered_mean
from steer_core.steering.compose import interventions
from steer_core.steering.intervention import Gate
from steer_core.steering.operators import load_operator
from steer_core.steering.plan import Plan
from steer_core.steering.strength import Strength, coefficient
from steer_core.steering.vector import SteeringVector
from steer_core.tables.errors import SteerworksError
from steer_core.tables.journal import Journal

Floats = NDArray[np.float64]

#: Bumped when the same vectors and answers give another curve.
VERSION = "2"
#: Answers from which it is said what the prompt alone makes of a request: one more than there are coefficients.
LEAST_FOR_PROMPT = 4
#: Share of answers that may fail beyond those that fail unsteered; a strength with more is not usable.
MOST_FAILED = 0.05
#: Units whose 0 is coefficient 0.
ZERO_UNITS: tuple[Unit, ...] = ("raw", "residual_fraction", "kl")
#: Where answers landed, by goal, strength (None: unsteered) and request; None for an answer that is none.
_Landed = Mapping[tuple[str, float | None, str], Mapping[str, float | None] | None]


@dataclass(frozen=True)
class _Row:
    """One answer of the trial."""

    goal: str
    strength: float | None
    request: Request
    response_id: str


def measure_dose_response(
    method: Method,
    requests: Sequence[Request],
    clusters: Mapping[str, str],
    vectors: Mapping[str, Sequence[SteeringVector]],
    strengths: Sequence[float],
    unit: Unit,
    *,
    positions: str,
    backend: Backend,
    journal: Journal,
    ruler: Ruler,
    seed: int,
    batch_size: int,
    draws: int,
    gate: Gate | None = None,
    texts_per_goal: int = 32,
    artifact: Artifact | None = None,
    progress: Progress | None = None,
) -> pl.DataFrame:
    """Rows of `dose_response`.

    All strengths of all goals share batches: strength and vector belong to the row.

    Args:
        method: the prompt with the parts before the vector, which plans once for a request.
        requests: requests of the training pool, each asking for at least one goal.
        clusters: request id -> source text id.
        vectors: goal -> its vectors, one for each layer and site; a backend must know them already.
        strengths: strengths to try, beside none at all.
        unit: their unit.
        positions: selector over absolute positions.
        backend: generates under interventions.
        journal: answers in it are not generated again.
        ruler: texts to positions in goal space.
        seed: the bench's seed.
        batch_size: rows generated together.
        draws: bootstrap resamples of the intervals.
        gate: condition on the row's prompt.
        texts_per_goal: requests tried for each goal, drawn evenly from those that ask for it.
        artifact: what that method was fitted to.
        progress: told after each batch.

    Raises:
        SteerworksError: a goal has a vector and no request of the pool asks for it.
    """
    rows: list[_Row] = []
    calls: list[Call] = []
    chosen = {goal: _asking_for(goal, requests, texts_per_goal) for goal in vectors}
    for goal, of_goal in vectors.items():
        for strength in _tried(strengths, is_anchored(of_goal, unit)):
            dose = None if strength is None else Strength(strength, unit)
            applied = interventions(of_goal, dose, positions=positions, gate=gate)
            for request in chosen[goal]:
                plan = _only_plan(method, request, artifact or Artifact())
                plan = replace(plan, interventions=(*plan.interventions, *applied))
                call = Call(plan, 0, sample_seed(seed, plan.id, 0))
                calls.append(call)
                rows.append(_Row(goal, strength, request, call.response_id(backend.execution)))
    answers = {
        str(r["response_id"]): r for r in run_calls(calls, backend, journal, batch_size, progress).iter_rows(named=True)
    }
    z = _positions(method, rows, answers, ruler)
    table = []
    for goal, of_goal in vectors.items():
        table += _of_goal(goal, of_goal, unit, [r for r in rows if r.goal == goal], z, clusters, draws, seed)
    return pl.DataFrame(table, schema=DoseResponse.empty().schema, orient="row")


def is_anchored(vectors: Sequence[SteeringVector], unit: Unit) -> bool:
    """Whether strength 0 is off: not for an edit that sets a concept to a place, whatever its coefficient."""
    return unit in ZERO_UNITS and all(load_operator(v.operator).idle_at_zero for v in vectors)


def _tried(strengths: Sequence[float], anchored: bool) -> list[float | None]:
    # where 0 is off it is the unsteered plan, which is tried anyway
    return [None, *sorted(s for s in set(strengths) if s or not anchored)]


def _asking_for(goal: str, requests: Sequence[Request], most: int) -> list[Request]:
    asking = [r for r in requests if any(t.goal == goal for t in r.active)]
    if not asking:
        raise SteerworksError(
            f"no request of the training pool asks for goal {goal!r}, so its dose-response cannot be measured: "
            "let the bench's `train_probe` cover it"
        )
    picked = np.unique(np.linspace(0, len(asking) - 1, min(most, len(asking))).round().astype(int))
    return [asking[i] for i in picked]


def _only_plan(method: Method, request: Request, artifact: Artifact) -> Plan:
    step = method.step(request, artifact, ())
    if isinstance(step, Choose) or len(step) != 1:
        raise SteerworksError("a vector needs a prompt that plans exactly one call; this strategy does not")
    return step[0]


def _positions(
    method: Method, rows: Sequence[_Row], answers: Mapping[str, Mapping[str, object]], ruler: Ruler
) -> _Landed:
    texts: dict[str, str] = {}
    for row in rows:
        answer = answers[row.response_id]
        text, parsed = method.clean(str(answer["raw"]))
        if failure_of(text, str(answer["finish_reason"]), parsed, row.request.text) is None:
            texts[row.response_id] = text
    distinct = sorted(set(texts.values()))
    located = dict(zip(distinct, ruler(distinct), strict=True))
    return {
        (r.goal, r.strength, r.request.request_id): located[texts[r.response_id]] if r.response_id in texts else None
        for r in rows
    }


def _of_goal(
    goal: str,
    vectors: Sequence[SteeringVector],
    unit: Unit,
    rows: Sequence[_Row],
    z: _Landed,
    clusters: Mapping[str, str],
    draws: int,
    seed: int,
) -> list[dict[str, object]]:
    goals = [t.goal for t in rows[0].request.goals]
    strengths = list(dict.fromkeys(r.strength for r in rows))
    requests = [r.request for r in rows if r.strength is None]
    labels = np.array([clusters[r.request_id] for r in requests])
    intercept, asked, start = _prompt_effect(goal, requests, z)
    unsteered = float(np.mean([z[goal, None, r.request_id] is None for r in requests]))
    table: list[dict[str, object]] = []
    for observed in goals:
        for strength in strengths:
            moves = np.array([_move(goal, observed, strength, r, z) for r in requests])
            failed = np.mean([z[goal, strength, r.request_id] is None for r in requests])
            found = clustered_mean(moves, labels)
            table.append(
                {
                    "goal": goal,
                    "observed_goal": observed,
                    "strength": strength,
                    "unit": unit,
                    "coefficient": None if strength is None else coefficient(Strength(strength, unit), vectors[0]),
                    "move": found.value,
                    "low": found.low,
                    "high": found.high,
                    "fitted": None,
                    "prompt_intercept": intercept,
                    "prompt_slope": asked,
                    "prompt_start": start,
                    "failed": float(failed),
                    "usable": bool(failed <= MOST_FAILED + unsteered),
                    "n": found.n,
                }
            )
    own = [r for r in table if r["observed_goal"] == goal]
    _fit(own, anchored=is_anchored(vectors, unit))
    return table


def _move(goal: str, observed: str, strength: float | None, request: Request, z: _Landed) -> float:
    steered, plain = z[goal, strength, request.request_id], z[goal, None, request.request_id]
    reached = None if steered is None else steered.get(observed)
    start = None if plain is None else plain.get(observed)
    return float("nan") if reached is None or start is None else reached - start


def _fit(own: list[dict[str, object]], *, anchored: bool) -> None:
    """Fill `fitted`, and cut unusable strengths off.

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


def _prompt_effect(goal: str, requests: Sequence[Request], z: _Landed) -> tuple[float, float, float]:
    """What the prompt alone makes of a request: intercept, and slopes on the move asked and on the start.

    Least squares on both: what is asked depends on where a text starts, and texts drift back from the ends whatever is
    asked. Without the start that drift would count as obedience.
    """
    rows, moved = [], []
    for request in requests:
        target = next(t for t in request.active if t.goal == goal)
        reached = z[goal, None, request.request_id]
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


@dataclass(frozen=True)
class DoseCurve:
    """The monotone fit of one goal.

    Attributes:
        strengths: usable strengths, ascending; 0 among them where it is off.
        moves: fitted move at each; never descending, or never ascending where the vector moves its goal the other way.
        anchored: whether strength 0 is off.
    """

    strengths: tuple[float, ...]
    moves: tuple[float, ...]
    anchored: bool = True

    @classmethod
    def of(cls, table: pl.DataFrame, goal: str, anchored: bool) -> DoseCurve:
        """The curve of a goal in rows of `dose_response`; empty (or off alone) where no strength was usable.

        Raises:
            SteerworksError: the table has no rows of that goal.
        """
        own = table.filter((pl.col("goal") == goal) & (pl.col("observed_goal") == goal))
        if not own.height:
            raise SteerworksError(f"no dose-response of goal {goal!r}: materialize `dose_response` first")
        used = own.filter(pl.col("usable") & pl.col("fitted").is_not_null() & pl.col("strength").is_not_null())
        points = dict(used.select("strength", "fitted").iter_rows())
        if anchored:
            points[0.0] = 0.0
        ordered = sorted(points.items())
        return cls(tuple(s for s, _ in ordered), tuple(m for _, m in ordered), anchored)

    def share(self, strength: float) -> float:
        """Share of the largest usable strength on that side; 0 where strength 0 is no point of the curve."""
        side = [abs(s) for s in self.strengths if s * strength > 0]
        return abs(strength) / max(side) if self.anchored and side else 0.0

    def strength_for(self, move: float) -> float | None:
        """The smallest strength whose fitted move is the one asked for, linear between two that were tried.

        Where none reaches it, the nearest there is; None (off) where that is no better than doing nothing.
        """
        if not self.strengths or move == 0.0:
            return None
        rising = self.moves[-1] >= self.moves[0]
        points = sorted(zip(self.strengths, self.moves, strict=True), reverse=not rising)
        if self.anchored:
            sign = 1.0 if move > 0 else -1.0
            points = sorted(((s, m) for s, m in points if (s if rising else -s) * sign >= 0), key=lambda p: abs(p[0]))
        found = _first_reaching(points, move)
        return None if abs(found[1] - move) >= abs(move) else found[0]


def _first_reaching(points: Sequence[tuple[float, float]], move: float) -> tuple[float, float]:
    """Strength and move of the first point on the line through these whose move is nearest to the one asked for."""
    best = min(points, key=lambda p: abs(p[1] - move))
    for (s0, m0), (s1, m1) in pairwise(points):
        if min(m0, m1) <= move <= max(m0, m1) and m0 != m1:
            return s0 + (move - m0) / (m1 - m0) * (s1 - s0), move
    return best
