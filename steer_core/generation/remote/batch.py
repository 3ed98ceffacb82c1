"""Batch APIs: requests sent as a file, answered within a day at a lower price; each step can be repeated.

`submit` uploads what has no answer and is not under way; `poll` looks; `collect` takes what has come. A request's
`custom_id` is its `response_id`, so an answer finds its row whatever happened in between, and what failed or ran out of
time is sent again by the next `submit`.
"""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from steer_core.generation.backend import Call
from steer_core.generation.remote.faults import EndpointError, Fault
from steer_core.generation.remote.ledger import BudgetError, Claim, Ledger, Reply
from steer_core.generation.remote.request import Request, Wire
from steer_core.tables.errors import ConfigError

#: Requests and bytes of a file that OpenAI takes at most.
MOST_ROWS, MOST_BYTES = 50_000, 190_000_000
#: What a batch is called here until the endpoint has named it; and where it is told to the endpoint.
NEW, MARK = "new-", "steerworks"
#: States in which nothing more comes.
ENDED = ("completed", "failed", "expired", "cancelled")


@dataclass(frozen=True)
class Submitted:
    """What a submission came to.

    Attributes:
        batches: ids of the batches that were made.
        sent: requests in them.
        answered: calls that have an answer already.
        under_way: calls that are under way in another batch or process.
        left: what could not be sent, and why; empty where all was.
    """

    batches: tuple[str, ...]
    sent: int
    answered: int
    under_way: int
    left: str = ""


@dataclass(frozen=True)
class Collected:
    """What a batch has brought.

    Attributes:
        batch_id: of the batch.
        state: in the endpoint's word.
        rows: requests in it.
        answers: rows that were answered, failed ones of their own kind (refused, truncated ...) included.
        again: rows that failed or ran out of time: the next `submit` sends them again.
    """

    batch_id: str
    state: str
    rows: int
    answers: int = 0
    again: int = 0


class Batches:
    """The batches of one model's endpoint.

    Args:
        wire: requests and replies.
        ledger: where attempts are kept.
        execution: fingerprint, which keys of answers hold.
        client: the synchronous official client; None: made when it is needed.

    Raises:
        ConfigError: the dialect has no batch API.
    """

    def __init__(self, wire: Wire, ledger: Ledger, execution: str, client: Any = None) -> None:
        if not wire.particulars.batches:
            raise ConfigError(f"dialect {wire.endpoint.dialect!r} has no batch API: run the cell as it is")
        self._wire, self._ledger, self._execution, self._made = wire, ledger, execution, client

    def submit(self, calls: Iterable[Call]) -> Submitted:
        """Send what has no answer yet; equal calls are sent once.

        Raises:
            EndpointError: the endpoint refuses a file; what was set aside for it is free again.
            SteerworksError: a call cannot be said to this endpoint.
        """
        wanted = {c.response_id(self._execution): c for c in calls}
        answered = self._ledger.answered(wanted)
        made: list[str] = []
        sent = under_way = 0
        left = ""
        new = [(key, call, self._wire.request(call)) for key, call in wanted.items() if key not in answered]
        self._adopt()
        for part in _parts(new):
            claims: list[Claim] = []
            lines, token = [], f"{NEW}{uuid.uuid4().hex}"
            for key, call, request in part:
                try:
                    claim = self._ledger.claim(
                        *(key, call.plan.id, 1, self._wire.reserve(request, batch=True)),
                        batch_id=token,
                        address=self._wire.shown,
                    )
                except BudgetError as error:
                    left = str(error)
                    break
                if isinstance(claim, Claim):
                    claims.append(claim)
                    lines.append(_line(key, request))
                elif claim == "wait":
                    left = (
                        f"max_cost {self._ledger.max_cost:g} {self._ledger.currency} is set aside for what is under "
                        "way: collect it first, or raise `max_cost`"
                    )
                    break
                else:
                    under_way += 1
            if claims:
                made.append(self._upload(claims, lines, part[0][2].path, token))
                sent += len(claims)
            if left:
                break
        return Submitted(tuple(made), sent, len(answered), under_way, left)

    def poll(self) -> list[Collected]:
        """The state of each batch that was not collected yet; nothing is taken."""
        return [
            Collected(batch_id, str(self._ask(partial(self._client.batches.retrieve, batch_id)).status), rows)
            for batch_id, rows in self._ledger.open_batches()
        ]

    def collect(self) -> list[Collected]:
        """Take the answers of batches that have ended; others are left under way."""
        return [self._collect(batch_id, rows) for batch_id, rows in self._ledger.open_batches()]

    def _adopt(self) -> None:
        """Find the batches of processes that were killed as they submitted; what never got there is free again."""
        lost = self._ledger.half_submitted(NEW)
        if not lost:
            return
        known = {(b.metadata or {}).get(MARK): b for b in self._ask(partial(self._client.batches.list, limit=100))}
        for token in lost:
            claims = list(self._ledger.claims_of(token).values())
            if (batch := known.get(token)) is not None:
                self._ledger.submitted(str(batch.id), str(batch.input_file_id), claims)
                continue
            for claim in claims:
                self._ledger.give_up(claim)

    def _upload(self, claims: Sequence[Claim], lines: Sequence[str], path: str, token: str) -> str:
        data = io.BytesIO("".join(lines).encode())
        data.name = "requests.jsonl"
        try:
            file = self._ask(partial(self._client.files.create, file=data, purpose="batch"))
            batch = self._ask(
                partial(
                    self._client.batches.create,
                    input_file_id=file.id,
                    endpoint=f"/v1{path}",
                    completion_window="24h",
                    metadata={MARK: token},
                )
            )
        except BaseException:
            for claim in claims:
                self._ledger.give_up(claim)
            raise
        self._ledger.submitted(str(batch.id), str(file.id), claims)
        return str(batch.id)

    def _collect(self, batch_id: str, rows: int) -> Collected:
        batch = self._ask(partial(self._client.batches.retrieve, batch_id))
        if batch.status not in ENDED:
            return Collected(batch_id, str(batch.status), rows)
        claims = self._ledger.claims_of(batch_id)
        answers = 0
        # a file of results may name a row twice, or one of another batch: the first line of an own row counts
        for line in self._lines(batch):
            claim = claims.pop(str(line.get("custom_id")), None)
            if claim is None:
                continue
            found = self._found(line)
            reply = found if isinstance(found, Reply) else found.reply
            self._ledger.settle(claim, reply)
            answers += isinstance(found, Reply) or found.remedy == "final"
        for claim in claims.values():
            said = f"the batch ended as {batch.status} without an answer to this row"
            self._ledger.settle(claim, Reply("failed", detail=said, cost=0.0))
        self._ledger.collected(batch_id, str(batch.status))
        return Collected(batch_id, str(batch.status), rows, answers, rows - answers)

    def _found(self, line: dict[str, Any]) -> Reply | Fault:
        response = line.get("response")
        if not isinstance(response, dict):
            detail = json.dumps(line.get("error"))[:300]
            return Fault(Reply("failed", detail=detail, cost=0.0), "again")
        status = int(response.get("status_code") or 500)
        found = self._wire.read(status, json.dumps(response.get("body")), {}, batch=True)
        if isinstance(found, Fault) and status >= 400:
            return replace(found, reply=replace(found.reply, cost=0.0))
        return found

    def _lines(self, batch: Any) -> Iterator[dict[str, Any]]:
        for file in (batch.output_file_id, batch.error_file_id):
            if file is None:
                continue
            text = self._ask(partial(self._client.files.content, file)).text
            for line in text.splitlines():
                try:
                    found = json.loads(line)
                except json.JSONDecodeError:
                    continue
                if isinstance(found, dict):
                    yield found

    @property
    def _client(self) -> Any:
        if self._made is None:
            import openai

            self._made = openai.OpenAI(
                api_key=self._wire.key() or "none",
                base_url=self._wire.address,
                timeout=self._wire.endpoint.timeout,
                default_headers=self._wire.headers(),
                default_query=dict(self._wire.endpoint.query),
            )
        return self._made

    def _ask(self, send: Callable[[], Any]) -> Any:
        import openai

        try:
            return send()
        except openai.APIStatusError as error:
            found = self._wire.read(error.status_code, error.response.text, error.response.headers)
            said = found.reply.detail if isinstance(found, Fault) else str(found)
            advice = found.advice if isinstance(found, Fault) else ""
            raise EndpointError(f"{self._wire.address}: {said}" + (f": {advice}" if advice else "")) from error
        except openai.APIConnectionError as error:
            raise EndpointError(
                f"{self._wire.address}: {type(error.__cause__ or error).__name__}: nothing was lost; run the step again"
            ) from error


def _parts(rows: Sequence[tuple[str, Call, Request]]) -> Iterator[list[tuple[str, Call, Request]]]:
    """Rows in files that the endpoint takes; chat and bare texts go apart."""
    for path in ("/chat/completions", "/completions"):
        part: list[tuple[str, Call, Request]] = []
        size = 0
        for row in (r for r in rows if r[2].path == path):
            length = len(_line(row[0], row[2]).encode())
            if part and (len(part) == MOST_ROWS or size + length > MOST_BYTES):
                yield part
                part, size = [], 0
            part.append(row)
            size += length
        if part:
            yield part


def _line(key: str, request: Request) -> str:
    body = {"custom_id": key, "method": "POST", "url": f"/v1{request.path}", "body": request.body}
    return json.dumps(body) + "\n"
