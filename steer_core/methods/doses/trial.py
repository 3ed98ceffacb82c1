"""Try a vector's strengths on the training pool, under the method's own prompt.

1. Each goal's vector is applied at each strength to the same texts of the training pool.
2. A move is z at a strength minus z of the same plan unsteered: what the prompt does by itself is not counted.
3. The curve is fitted by `curve.fit_curve`, and read backwards by `inversion.DoseCurve`.
4. How much is asked of the vector is picked by `policy.choose_policy`, by the steering error of these very answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from schemas.vector_part import Unit
from schemas.vectors import DoseResponse
from steer_core.generation.backend import Call
from steer_core.generation.journalled import run_calls
from steer_core.generation.run import Ruler, Run
from steer_core.methods.doses.curve import fit_curve, left_by_prompt, prompt_effect
from steer_core.methods.doses.inversion import DoseCurve, is_anchored
from steer_core.methods.doses.policy import Landings, Policy, choose_policy
from steer_core.methods.driver import failure_of, sample_seed
from steer_core.methods.protocol import Artifact, Choose, Method, Request
from steer_core.statistics import clustered_mean
from steer_core.steering.compose import interventions
from steer_core.steering.intervention import Gate
from steer_core.steering.plan import Plan
from steer_core.steering.strength import Strength, coefficient
from steer_core.steering.vector import SteeringVector
from steer_core.tables.errors import SteerworksError

#: Bumped when the same vectors and answers give another curve.
VERSION = "3"
#: Share of answers that may fail beyond those that fail unsteered; a strength with more is not usable.
MOST_FAILED = 0.05
#: Where answers landed, by goal, strength (None: unsteered) and request; None for an answer that is none.
_Landed = Mapping[tuple[str, float | None, str], Mapping[str, float | None] | None]


@dataclass(frozen=True)
class Trial:
    """What is tried.

    Attributes:
        vectors: goal -> its vectors, one for each layer and site; the backend must know them already.
        strengths: strengths to try, beside none at all.
        unit: their unit.
        positions: selector over absolute positions.
        gate: condition on the row's prompt.
        texts_per_goal: requests tried for each goal, drawn evenly from those that ask for it.
        part: label of the part whose vectors they are.
    """

    vectors: Mapping[str, Sequence[SteeringVector]]
    strengths: Sequence[float]
    unit: Unit
    positions: str = "all"
    gate: Gate | None = None
    texts_per_goal: int = 32
    part: str = "vector"


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
    trial: Trial,
    run: Run,
    artifact: Artifact | None = None,
) -> pl.DataFrame:
    """Rows of `dose_response`.

    All strengths of all goals share batches: strength and vector belong to the row.

    Args:
        method: the prompt with the parts before the vector, which plans once for a request.
        requests: requests of the training pool, each asking for at least one goal.
        clusters: request id -> source text id.
        trial: what is tried.
        run: who answers, and the ruler that says where answers land.
        artifact: what that method was fitted to.

    Raises:
        SteerworksError: a goal has a vector and no request of the pool asks for it.
    """
    rows: list[_Row] = []
    calls: list[Call] = []
    execution = run.asking.execution
    chosen = {goal: _asking_for(goal, requests, trial.texts_per_goal) for goal in trial.vectors}
    for goal, of_goal in trial.vectors.items():
        for strength in _tried(trial.strengths, is_anchored(of_goal, trial.unit)):
            dose = None if strength is None else Strength(strength, trial.unit)
            applied = interventions(of_goal, dose, positions=trial.positions, gate=trial.gate)
            for request in chosen[goal]:
                plan = _only_plan(method, request, artifact or Artifact())
                plan = replace(plan, interventions=(*plan.interventions, *applied))
                call = Call(plan, 0, sample_seed(run.seed, plan.id, 0))
                calls.append(call)
                rows.append(_Row(goal, strength, request, call.response_id(execution)))
    answers = {str(r["response_id"]): r for r in run_calls(calls, run).iter_rows(named=True)}
    z = _positions(method, rows, answers, run.measuring)
    table = []
    for goal in trial.vectors:
        table += _of_goal(goal, trial, [r for r in rows if r.goal == goal], z, clusters)
    return pl.DataFrame(table, schema=DoseResponse.empty().schema, orient="row")


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
    goal: str, trial: Trial, rows: Sequence[_Row], z: _Landed, clusters: Mapping[str, str]
) -> list[dict[str, object]]:
    vectors, unit = trial.vectors[goal], trial.unit
    goals = [t.goal for t in rows[0].request.goals]
    strengths = list(dict.fromkeys(r.strength for r in rows))
    requests = [r.request for r in rows if r.strength is None]
    labels = np.array([clusters[r.request_id] for r in requests])
    intercept, asked, start = prompt_effect(
        goal, requests, {r.request_id: z[goal, None, r.request_id] for r in requests}
    )
    unsteered = float(np.mean([z[goal, None, r.request_id] is None for r in requests]))
    table: list[dict[str, object]] = []
    for observed in goals:
        for strength in strengths:
            moves = np.array([_move(goal, observed, strength, r, z) for r in requests])
            failed = np.mean([z[goal, strength, r.request_id] is None for r in requests])
            found = clustered_mean(moves, labels)
            table.append(
                {
                    "part": trial.part,
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
                    "share": 1.0,
                    "floor": 0.0,
                    "gain": None,
                    "gain_low": None,
                    "gain_high": None,
                    "failed": float(failed),
                    "usable": bool(failed <= MOST_FAILED + unsteered),
                    "n": found.n,
                }
            )
    own = [r for r in table if r["observed_goal"] == goal]
    anchored = is_anchored(vectors, unit)
    fit_curve(own, anchored=anchored)
    curve = DoseCurve.of(pl.DataFrame(table, schema=DoseResponse.empty().schema, orient="row"), goal, anchored)
    left = [_left(goal, r, (intercept, asked, start)) for r in requests]
    policy = _policy(goal, curve, left, requests, strengths, z, labels)
    for row in table:
        row |= {"share": policy.share, "floor": policy.floor}
        row |= {"gain": policy.gain, "gain_low": policy.low, "gain_high": policy.high}
    return table


def _left(goal: str, request: Request, prompt: tuple[float, float, float]) -> float:
    target = next(t for t in request.active if t.goal == goal)
    return left_by_prompt(target.delta, target.z0, prompt)


def _policy(
    goal: str,
    curve: DoseCurve,
    left: Sequence[float],
    requests: Sequence[Request],
    strengths: Sequence[float | None],
    z: _Landed,
    labels: NDArray[np.str_],
) -> Policy:
    """The policy of a goal, by where the answers of its trial landed."""
    axes = [t.goal for t in requests[0].goals]
    wanted = np.array([[t.z0 if t.z_star is None else t.z_star for t in r.goals] for r in requests])
    at = {}
    for strength in strengths:
        landed = [z[goal, strength, r.request_id] or {} for r in requests]
        at[strength] = np.array(
            [[np.nan if p.get(g) is None else p[g] for g in axes] for p in landed], dtype=np.float64
        )
    return choose_policy(curve, left, Landings(wanted, at), labels)


def _move(goal: str, observed: str, strength: float | None, request: Request, z: _Landed) -> float:
    steered, plain = z[goal, strength, request.request_id], z[goal, None, request.request_id]
    reached = None if steered is None else steered.get(observed)
    start = None if plain is None else plain.get(observed)
    return float("nan") if reached is None or start is None else reached - start
