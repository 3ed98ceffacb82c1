"""Dose and response: how far a vector's strength moves a goal, measured on the training pool, fitted, inverted.

1. Each goal's vector is applied at each strength to the same texts of the training pool under the method's own prompt.
2. A move is z at a strength minus z at strength 0 of the same plan: what the prompt does by itself is not counted.
3. The goal's own mean move is made monotone in strength (isotonic least squares, weighted by answers), through 0 at 0.
4. A strength at which too many answers fail is not usable; beyond it nothing is asked for on that side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

from schemas.specs import Unit
from schemas.vectors import DoseResponse
from steer_core.generation.backend import Backend, Call
from steer_core.generation.runner import Progress, run_calls
from steer_core.methods.driver import Ruler, failure_of, sample_seed
from steer_core.methods.protocol import Artifact, Choose, Method, Request
from steer_core.statistics import clustered_bootstrap
from steer_core.steering.compose import interventions
from steer_core.steering.intervention import Gate
from steer_core.steering.plan import Plan
from steer_core.steering.strength import Strength, coefficient
from steer_core.steering.vector import SteeringVector
from steer_core.tables.errors import SteerworksError
from steer_core.tables.journal import Journal

Floats = NDArray[np.float64]

#: Bumped when the same vectors and answers give another curve.
VERSION = "1"
#: Share of failed answers from which a strength is not usable.
MOST_FAILED = 0.2


@dataclass(frozen=True)
class _Row:
    """One answer of the trial."""

    goal: str
    strength: float
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
    progress: Progress | None = None,
) -> pl.DataFrame:
    """Rows of `dose_response`.

    All strengths of all goals share batches: strength and vector belong to the row.

    Args:
        method: the prompt part, which plans once for a request.
        requests: requests of the training pool, each asking for at least one goal.
        clusters: request id -> source text id.
        vectors: goal -> its vectors, one for each layer and site; a backend must know them already.
        strengths: strengths to try; 0 is added.
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
        progress: told after each batch.

    Raises:
        SteerworksError: a goal has a vector and no request of the pool asks for it.
    """
    rows: list[_Row] = []
    calls: list[Call] = []
    chosen = {goal: _asking_for(goal, requests, texts_per_goal) for goal in vectors}
    for goal, of_goal in vectors.items():
        for strength in sorted({0.0, *strengths}):
            dose = None if strength == 0.0 else Strength(strength, unit)
            applied = interventions(of_goal, dose, positions=positions, gate=gate)
            for request in chosen[goal]:
                plan = replace(_only_plan(method, request), interventions=applied)
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


def _asking_for(goal: str, requests: Sequence[Request], most: int) -> list[Request]:
    asking = [r for r in requests if any(t.goal == goal for t in r.active)]
    if not asking:
        raise SteerworksError(
            f"no request of the training pool asks for goal {goal!r}, so its dose-response cannot be measured: "
            "let the bench's `train_probe` cover it"
        )
    picked = np.unique(np.linspace(0, len(asking) - 1, min(most, len(asking))).round().astype(int))
    return [asking[i] for i in picked]


def _only_plan(method: Method, request: Request) -> Plan:
    step = method.step(request, Artifact(), ())
    if isinstance(step, Choose) or len(step) != 1:
        raise SteerworksError("a vector needs a prompt that plans exactly one call; this strategy does not")
    return step[0]


def _positions(
    method: Method, rows: Sequence[_Row], answers: Mapping[str, Mapping[str, object]], ruler: Ruler
) -> dict[tuple[str, float, str], Mapping[str, float | None] | None]:
    """Where each answer landed, by goal, strength and request; None for an answer that is none."""
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
    z: Mapping[tuple[str, float, str], Mapping[str, float | None] | None],
    clusters: Mapping[str, str],
    draws: int,
    seed: int,
) -> list[dict[str, object]]:
    goals = [t.goal for t in rows[0].request.goals]
    strengths = sorted({r.strength for r in rows})
    requests = [r.request for r in rows if r.strength == 0.0]
    labels = np.array([clusters[r.request_id] for r in requests])
    intercept, slope = _prompt_effect(goal, requests, z)
    table: list[dict[str, object]] = []
    for observed in goals:
        for strength in strengths:
            moves = np.array([_move(goal, observed, strength, r, z) for r in requests])
            failed = np.mean([z[goal, strength, r.request_id] is None for r in requests])
            found = clustered_bootstrap(
                moves, labels, statistics=("mean",), draws=draws, rng=np.random.default_rng(seed)
            )["mean"]
            table.append(
                {
                    "goal": goal,
                    "observed_goal": observed,
                    "strength": strength,
                    "unit": unit,
                    "coefficient": coefficient(Strength(strength, unit), vectors[0]) if strength else 0.0,
                    "move": found.value,
                    "low": found.low,
                    "high": found.high,
                    "fitted": None,
                    "prompt_intercept": intercept,
                    "prompt_slope": slope,
                    "failed": float(failed),
                    "usable": bool(failed <= MOST_FAILED),
                    "n": found.n,
                }
            )
    own = [r for r in table if r["observed_goal"] == goal]
    _fit(own)
    return table


def _move(
    goal: str,
    observed: str,
    strength: float,
    request: Request,
    z: Mapping[tuple[str, float, str], Mapping[str, float | None] | None],
) -> float:
    steered, plain = z[goal, strength, request.request_id], z[goal, 0.0, request.request_id]
    if steered is None or plain is None or steered.get(observed) is None or plain.get(observed) is None:
        return float("nan")
    return float(steered[observed]) - float(plain[observed])  # type: ignore[arg-type]  # checked above


def _fit(own: list[dict[str, object]]) -> None:
    """Fill `fitted`: isotonic on each side of 0 apart, so that the curve passes through 0; unusable ends cut off.

    A vector may turn out to move its goal the other way; the curve then falls, and is used as it is.
    """
    leaning = sum(float(str(r["strength"])) * float(str(r["move"])) for r in own if r["move"] is not None)
    direction = 1.0 if leaning >= 0 else -1.0
    for side in (-1.0, 1.0):
        of_side = (r for r in own if float(str(r["strength"])) * side > 0)
        rows = sorted(of_side, key=lambda r: abs(float(str(r["strength"]))))
        for k, row in enumerate(rows):
            # what lies beyond an unusable strength is not trusted either
            row["usable"] = bool(row["usable"]) and (k == 0 or bool(rows[k - 1]["usable"])) and row["move"] is not None
        usable = [r for r in rows if r["usable"]]
        moves = side * direction * np.array([float(str(r["move"])) for r in usable])
        for row, fitted in zip(usable, _isotonic(moves, np.array([float(str(r["n"])) for r in usable])), strict=True):
            row["fitted"] = side * direction * max(0.0, float(fitted))
    for row in own:
        if row["strength"] == 0.0:
            row["fitted"], row["usable"] = 0.0, True


def _isotonic(values: Floats, weights: Floats) -> Floats:
    from scipy.optimize import isotonic_regression

    found: Floats = isotonic_regression(values, weights=weights).x if len(values) else values
    return found


def _prompt_effect(
    goal: str, requests: Sequence[Request], z: Mapping[tuple[str, float, str], Mapping[str, float | None] | None]
) -> tuple[float, float]:
    """Least-squares line of the move that the prompt alone makes on the move that was asked for."""
    asked, moved = [], []
    for request in requests:
        target = next(t for t in request.active if t.goal == goal)
        reached = z[goal, 0.0, request.request_id]
        if reached is not None and reached.get(goal) is not None:
            asked.append(target.delta)
            moved.append(float(reached[goal]) - target.z0)  # type: ignore[arg-type]
    if len(set(asked)) < 2:
        return (0.0, 0.0)
    slope, intercept = np.polyfit(asked, moved, 1)
    return float(intercept), float(slope)


@dataclass(frozen=True)
class DoseCurve:
    """The monotone fit of one goal.

    Attributes:
        strengths: usable strengths, ascending, 0 among them.
        moves: fitted move at each; never descending, or never ascending where the vector moves its goal the other way.
    """

    strengths: tuple[float, ...]
    moves: tuple[float, ...]

    @classmethod
    def of(cls, table: pl.DataFrame, goal: str) -> DoseCurve:
        """The curve of a goal in rows of `dose_response`.

        Raises:
            SteerworksError: the table has no curve of that goal.
        """
        own = table.filter((pl.col("goal") == goal) & (pl.col("observed_goal") == goal) & pl.col("usable"))
        own = own.filter(pl.col("fitted").is_not_null()).sort("strength")
        if not own.height:
            raise SteerworksError(f"no dose-response of goal {goal!r}: materialize `dose_response` first")
        return cls(tuple(own["strength"].to_list()), tuple(own["fitted"].to_list()))

    def strength_for(self, move: float) -> float:
        """The smallest strength whose fitted move is the one asked for; the nearest usable end where none reaches it.

        Between two strengths the curve is linear.
        """
        sign = 1.0 if move > 0 else -1.0
        rising = sum(s * m for s, m in zip(self.strengths, self.moves, strict=True)) >= 0
        side = sign if rising else -sign
        points = sorted((abs(s), sign * m) for s, m in zip(self.strengths, self.moves, strict=True) if s * side >= 0)
        wanted = abs(move)
        best = max(m for _, m in points)
        if best <= 0.0 or wanted == 0.0:
            return 0.0
        for (s0, m0), (s1, m1) in pairwise(points):
            if m1 >= wanted:
                return side * (s0 + (wanted - m0) / (m1 - m0) * (s1 - s0))
        return side * min(s for s, m in points if m == best)
