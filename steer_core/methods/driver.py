"""The driver: runs `step` for all requests, each as soon as its own answers are in, and hands back observations."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from schemas.digest import canonical_json, digest_json, digest_text
from schemas.evaluation import HEADLINE
from schemas.responses import Outcomes, Responses
from steer_core.evaluation.refusals import is_refusal
from steer_core.generation.backend import Backend, Call
from steer_core.generation.journalled import Row, printable, response_rows, stream_calls
from steer_core.generation.run import Run
from steer_core.methods.part import Arm, Composed
from steer_core.methods.protocol import Artifact, Choose, GoalTarget, Method, Observation, Request
from steer_core.tables.errors import SteerworksError

#: Bumped when the same method, requests and answers give other tables.
VERSION = "1"

#: Rounds after which a method that never chooses is stopped.
MOST_ROUNDS = 100


@dataclass
class _State:
    """A request under way, at an arm of the method."""

    method: Method
    arm_id: str
    request: Request
    probe: str
    history: list[Observation] = field(default_factory=list)
    choice: Choose | None = None
    rounds: int = 0
    #: calls of the round under way, with the ids of their responses
    asked: list[tuple[Call, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Answered:
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
    run: Run,
    *,
    artifact: Artifact | None = None,
    arms: Sequence[Arm] = (),
) -> Answered:
    """Run a method on all requests, as it is and at further arms, all in one stream.

    Calls stream: a request's next round starts when its own answers are in, whatever the others do.

    Args:
        method: what steps.
        requests: rows of `requests`.
        request_goals: rows of `request_goals`.
        goals: axes of the goal space, in order.
        run: who answers, where answers are kept, what measures them; the rows in all that its progress is told are
            those asked for so far.
        artifact: what the method was fitted to; None: nothing.
        arms: settings that every request is also asked at.

    Raises:
        SteerworksError: a backend or ruler is missing, the backend cannot execute a plan, or a method never chooses.
    """
    if method.traits.measures and run.ruler is None:
        raise SteerworksError("this method measures its attempts, and no ruler was given")
    probes = dict(requests.select("request_id", "probe").iter_rows())
    variants = {HEADLINE: method}
    if arms:
        if not isinstance(method, Composed):
            raise SteerworksError("arms were given, and this method has no part that could be set to them")
        variants |= {arm.arm_id: method.at(arm) for arm in arms}
    asked = requests_from(requests, request_goals, goals)
    states = [_State(m, arm_id, r, probes[r.request_id]) for arm_id, m in variants.items() for r in asked]
    rounds = _Rounds(method, artifact or Artifact(), states, run)
    rounds.advance()
    if rounds.queue:
        rounds.longest_first(run.asking)
        done = len(rounds.rows)

        def told(written: int) -> None:
            if run.progress is not None:
                run.progress(done + written, len(rounds.rows) + len(rounds.waiting))

        for _, row in stream_calls(rounds.calls(), run, told=told):
            rounds.answered(row)
    outcomes = _outcomes(method, states, rounds.rows)
    return Answered(_responses(rounds.rows), outcomes)


class _Rounds:
    """The requests under way: which calls they wait for, and what came back.

    Attributes:
        rows: cleaned rows of `responses` by id.
        queue: calls that are still to be made.
        waiting: response id -> the requests that wait for it.
    """

    def __init__(self, method: Method, artifact: Artifact, states: Sequence[_State], run: Run) -> None:
        self.method, self.artifact, self.run = method, artifact, run
        self.backend, self.ruler = run.backend, run.ruler if method.traits.measures else None
        self.rows: dict[str, Row] = {}
        self.queue: deque[tuple[str, Call]] = deque()
        self.waiting: dict[str, list[_State]] = {}
        self._ready = list(states)

    def calls(self) -> Iterator[Call | None]:
        """Calls as they come up; None while all requests wait for answers."""
        while True:
            self.advance()
            if self.queue:
                yield self.queue.popleft()[1]
            elif self.waiting:
                yield None
            else:
                return

    def answered(self, row: Row) -> None:
        """An answer has come: requests that have all of theirs are ready for their next round."""
        response_id = str(row["response_id"])
        self.rows[response_id] = cleaned = _cleaned(self.method, row)
        if self.run.listener is not None:
            self.run.listener([str(cleaned["text"])])
        for state in self.waiting.pop(response_id):
            if all(i in self.rows for _, i in state.asked):
                self._ready.append(state)

    def advance(self) -> None:
        """Step all requests that are ready; what ended together is measured together."""
        while self._ready:
            ready, self._ready = self._ready, []
            self._observe(ready)
            # what all of them ask is looked up in the journal at once
            asked = [pair for state in ready for pair in self._step(state)]
            new = {i for _, _, i in asked if i not in self.rows and i not in self.waiting}
            held = (
                {str(r["response_id"]): r for r in self.run.journal.read(list(new)).iter_rows(named=True)}
                if new
                else {}
            )
            for state, call, response_id in asked:
                self._ask(state, call, response_id, held)
            self._ready += [s for s in ready if s.asked and all(i in self.rows for _, i in s.asked)]

    def longest_first(self, backend: Backend) -> None:
        """Put the calls with long prompts first, so that a lack of memory shows at once."""
        order = {i: (-backend.prompt_tokens(call.plan), i) for i, call in self.queue}
        self.queue = deque(sorted(self.queue, key=lambda entry: order[entry[0]]))

    def _observe(self, states: Sequence[_State]) -> None:
        texts = sorted({str(self.rows[i]["text"]) for state in states for _, i in state.asked})
        measured: dict[str, dict[str, float | None]] = {}
        if self.ruler is not None and texts:
            measured = dict(zip(texts, self.ruler(texts), strict=True))
        for state in states:
            for call, response_id in state.asked:
                row = self.rows[response_id]
                text, parsed, finish = str(row["text"]), bool(row["parsed"]), str(row["finish_reason"])
                state.history.append(Observation(response_id, call.plan, text, parsed, finish, measured.get(text)))
            state.asked = []

    def _step(self, state: _State) -> list[tuple[_State, Call, str]]:
        """One step of a request: the calls that it asks for. Equal plans of a request are counted as its samples."""
        step = state.method.step(state.request, self.artifact, tuple(state.history))
        if isinstance(step, Choose):
            state.choice = step
            return []
        if not step:
            raise SteerworksError(f"request {state.request.request_id}: the method neither asks nor chooses")
        if self.backend is None:
            raise SteerworksError("this method calls a model, and no backend was given")
        state.rounds += 1
        if state.rounds > MOST_ROUNDS:
            raise SteerworksError(f"the method asked for more after {MOST_ROUNDS} rounds: it never chooses")
        samples: dict[str, int] = {}
        for observation in state.history:
            samples[observation.plan.id] = samples.get(observation.plan.id, 0) + 1
        for plan in step:
            sample = samples.get(plan.id, 0)
            samples[plan.id] = sample + 1
            call = Call(plan, sample, sample_seed(self.run.seed, plan.id, sample))
            response_id = call.response_id(self.backend.execution)
            state.asked.append((call, response_id))
        return [(state, call, response_id) for call, response_id in state.asked]

    def _ask(self, state: _State, call: Call, response_id: str, held: Mapping[str, Row]) -> None:
        if response_id in self.rows:
            return
        if response_id in held:
            self.rows[response_id] = _cleaned(self.method, dict(held[response_id]))
        elif response_id in self.waiting:
            self.waiting[response_id].append(state)
        else:
            assert self.backend is not None  # `_step` looked
            self.backend.capabilities.refuse(call.plan)
            self.waiting[response_id] = [state]
            self.queue.append((response_id, call))


def sample_seed(seed: int, plan_id: str, sample_index: int) -> int:
    """Seed of a row: follows from the bench's seed, the plan and the sample alone."""
    return int(digest_text(f"{seed}:{plan_id}:{sample_index}")[:15], 16)


def _cleaned(method: Method, row: Row) -> Row:
    text, parsed = method.clean(str(row["raw"]))
    text = printable(text)
    return {**row, "text": text, "text_id": digest_text(text), "parsed": parsed}


def _responses(rows: dict[str, Row]) -> pl.DataFrame:
    schema = Responses.empty().schema
    return pl.DataFrame(list(rows.values()), schema=schema, orient="row").sort("response_id")


def _outcomes(method: Method, states: Sequence[_State], rows: dict[str, Row]) -> pl.DataFrame:
    outcomes = []
    for state in states:
        assert state.choice is not None
        row = rows[state.choice.response_id] if state.choice.response_id else _without_model(method, state, rows)
        attempts = [rows[i] for i in dict.fromkeys(o.response_id for o in state.history)]
        text = str(row["text"])
        outcomes.append(
            {
                "arm_id": state.arm_id,
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
    """Why a response is no answer: overlong, truncated, empty, refused, filtered, unparsable; None where it is one."""
    if finish_reason in ("overlong", "refused", "filtered"):
        return finish_reason
    if finish_reason == "length":
        return "truncated"
    if not text.strip():
        return "empty"
    if finish_reason != "source" and is_refusal(text, source):
        return "refused"
    return None if parsed else "unparsable"


def _without_model(method: Method, state: _State, rows: dict[str, Row]) -> Row:
    """A row for a text that no model of this run wrote: a copy, or an import."""
    choice = state.choice
    assert choice is not None
    raw = printable(choice.text or "")
    plan = canonical_json({choice.finish_reason: state.request.request_id})
    text, parsed = method.clean(raw)
    row: Row = {
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
