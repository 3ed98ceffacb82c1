"""The driver: runs `step` for all requests in rounds, batches their plans, hands back observations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from schemas.digest import canonical_json, digest_json, digest_text
from schemas.responses import Outcomes, Responses
from steer_core.generation.backend import Backend, Call
from steer_core.generation.runner import Progress, printable, response_rows, run_calls
from steer_core.methods.cleaning import is_refusal
from steer_core.methods.protocol import Artifact, Choose, GoalTarget, Method, Observation, Request
from steer_core.tables.errors import SteerworksError
from steer_core.tables.journal import Journal

#: Bumped when the same method, requests and answers give other tables.
VERSION = "1"

#: Texts to positions in goal space, one mapping goal -> z (None: undefined) a text.
Ruler = Callable[[Sequence[str]], list[dict[str, float | None]]]
#: Rounds after which a method that never chooses is stopped.
MOST_ROUNDS = 100


@dataclass
class _State:
    """A request under way."""

    request: Request
    probe: str
    history: list[Observation] = field(default_factory=list)
    choice: Choose | None = None
    rounds: int = 0


@dataclass(frozen=True)
class Run:
    """What running a method gives: every attempt, and the choice for each request."""

    responses: pl.DataFrame
    outcomes: pl.DataFrame


def requests_from(requests: pl.DataFrame, request_goals: pl.DataFrame, goals: Iterable[str]) -> list[Request]:
    """Rows of `requests` and `request_goals` as objects, goals in the given order."""
    order = {g: i for i, g in enumerate(goals)}
    targets: dict[str, list[GoalTarget]] = {}
    for request_id, goal, z0, z_star in request_goals.select("request_id", "goal", "z0", "z_star").iter_rows():
        targets.setdefault(request_id, []).append(GoalTarget(goal, z0, z_star))
    return [
        Request(request_id, text, tuple(sorted(targets[request_id], key=lambda t: order[t.goal])))
        for request_id, text in requests.select("request_id", "text").iter_rows()
    ]


def run_method(
    method: Method,
    requests: pl.DataFrame,
    request_goals: pl.DataFrame,
    goals: Sequence[str],
    *,
    artifact: Artifact,
    backend: Backend | None,
    journal: Journal,
    ruler: Ruler | None,
    seed: int,
    batch_size: int,
    progress: Progress | None = None,
) -> Run:
    """Run a method on all requests.

    Args:
        method: what steps.
        requests: rows of `requests`.
        request_goals: rows of `request_goals`.
        goals: axes of the goal space, in order.
        artifact: what the method was fitted to.
        backend: what generates; None only for methods that call no model.
        journal: of this model; answers in it are not generated again.
        ruler: measures texts; needed by methods that measure.
        seed: the bench's seed.
        batch_size: rows generated together.
        progress: told after each batch of each round.

    Raises:
        SteerworksError: a backend or ruler is missing, or a method never chooses.
    """
    if method.traits.measures and ruler is None:
        raise SteerworksError("this method measures its attempts, and no ruler was given")
    probes = dict(requests.select("request_id", "probe").iter_rows())
    states = [_State(r, probes[r.request_id]) for r in requests_from(requests, request_goals, goals)]
    rows: dict[str, dict[str, object]] = {}
    for _ in range(MOST_ROUNDS):
        calls = _ask(method, artifact, states, seed)
        if not calls:
            outcomes = _outcomes(method, states, rows)
            return Run(_responses(rows), outcomes)
        if backend is None:
            raise SteerworksError("this method calls a model, and no backend was given")
        asked = [call for _, call in calls]
        answered = run_calls(asked, backend, journal, batch_size, progress)
        rows |= {str(r["response_id"]): r for r in _cleaned(method, answered).iter_rows(named=True)}
        _observe(calls, rows, backend.execution, ruler if method.traits.measures else None)
    raise SteerworksError(f"the method asked for more after {MOST_ROUNDS} rounds: it never chooses")


def _ask(method: Method, artifact: Artifact, states: list[_State], seed: int) -> list[tuple[_State, Call]]:
    """One step of every open request; equal plans of a request are counted as its samples."""
    calls = []
    for state in states:
        if state.choice is not None:
            continue
        step = method.step(state.request, artifact, tuple(state.history))
        if isinstance(step, Choose):
            state.choice = step
            continue
        if not step:
            raise SteerworksError(f"request {state.request.request_id}: the method neither asks nor chooses")
        state.rounds += 1
        asked: dict[str, int] = {}
        for observation in state.history:
            asked[observation.plan.id] = asked.get(observation.plan.id, 0) + 1
        for plan in step:
            sample = asked.get(plan.id, 0)
            asked[plan.id] = sample + 1
            calls.append((state, Call(plan, sample, sample_seed(seed, plan.id, sample))))
    return calls


def sample_seed(seed: int, plan_id: str, sample_index: int) -> int:
    """Seed of a row: follows from the bench's seed, the plan and the sample alone."""
    return int(digest_text(f"{seed}:{plan_id}:{sample_index}")[:15], 16)


def _cleaned(method: Method, answered: pl.DataFrame) -> pl.DataFrame:
    cleaned = [method.clean(raw) for raw in answered["raw"].to_list()]
    texts = [printable(text) for text, _ in cleaned]
    return answered.with_columns(
        text=pl.Series(texts, dtype=pl.String),
        text_id=pl.Series([digest_text(t) for t in texts], dtype=pl.String),
        parsed=pl.Series([parsed for _, parsed in cleaned], dtype=pl.Boolean),
    )


def _observe(
    calls: Sequence[tuple[_State, Call]], rows: Mapping[str, Mapping[str, object]], execution: str, ruler: Ruler | None
) -> None:
    ids = [call.response_id(execution) for _, call in calls]
    measured: dict[str, dict[str, float | None]] = {}
    if ruler is not None:
        texts = sorted({str(rows[i]["text"]) for i in ids})
        measured = dict(zip(texts, ruler(texts), strict=True))
    for (state, call), response_id in zip(calls, ids, strict=True):
        row = rows[response_id]
        text = str(row["text"])
        z = measured.get(text)
        state.history.append(
            Observation(response_id, call.plan, text, bool(row["parsed"]), str(row["finish_reason"]), z)
        )


def _responses(rows: Mapping[str, dict[str, object]]) -> pl.DataFrame:
    schema = Responses.empty().schema
    return pl.DataFrame(list(rows.values()), schema=schema, orient="row").sort("response_id")


def _outcomes(method: Method, states: Sequence[_State], rows: dict[str, dict[str, object]]) -> pl.DataFrame:
    outcomes = []
    for state in states:
        assert state.choice is not None
        row = rows[state.choice.response_id] if state.choice.response_id else _without_model(method, state, rows)
        attempts = [rows[i] for i in dict.fromkeys(o.response_id for o in state.history)]
        text = str(row["text"])
        outcomes.append(
            {
                "request_id": state.request.request_id,
                "probe": state.probe,
                "response_id": row["response_id"],
                "text": text,
                "text_id": row["text_id"],
                "failure": failure_of(text, str(row["finish_reason"]), bool(row["parsed"]), state.request.text),
                "copied": text.split() == state.request.text.split(),
                "rounds": state.rounds,
                "n_calls": len(attempts),
                "prompt_tokens": sum(int(str(a["prompt_tokens"])) for a in attempts),
                "completion_tokens": sum(int(str(a["completion_tokens"])) for a in attempts),
                "seconds": sum(float(str(a["seconds"])) for a in attempts),
            }
        )
    return pl.DataFrame(outcomes, schema=Outcomes.empty().schema, orient="row")


def failure_of(text: str, finish_reason: str, parsed: bool, source: str = "") -> str | None:
    """Why a response is no answer: overlong, truncated, empty, refused or unparsable; None where it is one."""
    if finish_reason == "overlong":
        return "overlong"
    if finish_reason == "length":
        return "truncated"
    if not text.strip():
        return "empty"
    if finish_reason != "source" and is_refusal(text, source):
        return "refused"
    return None if parsed else "unparsable"


def _without_model(method: Method, state: _State, rows: dict[str, dict[str, object]]) -> dict[str, object]:
    """A row for a text that no model of this run wrote: a copy, or an import."""
    choice = state.choice
    assert choice is not None
    raw = printable(choice.text or "")
    plan = canonical_json({choice.finish_reason: state.request.request_id})
    text, parsed = method.clean(raw)
    row: dict[str, object] = {
        "response_id": digest_json([plan, raw]),
        "plan_id": digest_text(plan),
        "plan": plan,
        "sample_index": 0,
        "seed": 0,
        "execution": choice.finish_reason,
        "raw": raw,
        "text": printable(text),
        "finish_reason": choice.finish_reason,
        "parsed": parsed,
        "prompt_tokens": 0,
        "completion_tokens": 0,
        "seconds": 0.0,
        "receipt": None,
    }
    row = response_rows([row]).row(0, named=True)
    rows[str(row["response_id"])] = row
    return row
