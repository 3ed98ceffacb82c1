"""Calls to a running vLLM, answers back: many requests at a time, each steered one with its receipt."""

from __future__ import annotations

import contextlib
import itertools
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Literal

from steer_core.generation.backend import Call, Draft, Finished, Generation
from steer_core.generation.marks import Writer
from steer_core.generation.servers.asked import completion_body
from steer_core.generation.servers.proof import worker_receipt
from steer_core.generation.servers.running import Running
from steer_core.steering.plan import Plan
from steer_core.tables.errors import SteerworksError

#: Answers that wait for their receipts together, while others are under way.
RECEIPTS = 32
#: Looks at receipts that are not there yet, a twentieth of a second apart.
LOOKS = 100
#: Seconds that requests under way are given when another one has failed.
GRACE = 5.0


@dataclass(frozen=True)
class Prepared:
    """A call whose plan was checked.

    Attributes:
        call: the call.
        tokens: ids of its prompt.
        room: tokens that it may write; 0 or less: its prompt is too long.
    """

    call: Call
    tokens: list[int]
    room: int


@dataclass(frozen=True)
class _Answer:
    """A completion that came: its row, what was asked, and the token ids."""

    index: int
    plan: Plan
    prompt: int
    tokens: list[int]
    stopped: bool
    nonce: str
    seconds: float


class Completions:
    """Answers of a vLLM.

    Args:
        server: gives it, started and with all vectors that plans refer to.
        name: what it calls the model.
        rows: most requests at a time.
        ends: ids that end an answer.
        write: token ids to the text of an answer.
        named: digest of an adapter -> what it calls that; by default the digest.
    """

    def __init__(
        self,
        server: Callable[[], Running],
        name: str,
        rows: int,
        ends: frozenset[int],
        write: Writer,
        named: Callable[[str], str] = str,
    ) -> None:
        self._server, self._name, self._rows, self._ends, self._write = server, name, rows, ends, write
        self._named = named

    def of(self, source: Iterator[Prepared | None]) -> Iterator[Finished]:
        """Answers as they come, in any order.

        Args:
            source: what is asked; None where there is nothing now, and may be once an answer was handed over.

        Raises:
            SteerworksError: the server does not answer, or a receipt does not add up. What had been answered by then
                is handed over first.
        """
        numbers, over = itertools.count(), False
        under_way: set[Future[_Answer]] = set()
        steered: list[_Answer] = []
        pool = ThreadPoolExecutor(self._rows)
        try:
            while True:
                while not over and len(under_way) < self._rows:
                    asked = next(source, _OVER)
                    if asked is _OVER:
                        over = True
                        break
                    if asked is None:
                        break
                    assert isinstance(asked, Prepared)
                    index = next(numbers)
                    if asked.room <= 0:
                        yield Finished(index, Generation("", "overlong", len(asked.tokens), 0, 0.0))
                        continue
                    under_way.add(pool.submit(self._complete, self._server(), index, asked))
                # the worker is asked for many receipts at once
                if len(steered) >= RECEIPTS or (steered and not under_way):
                    proven, steered = steered, []
                    yield from self._proven(proven)
                    continue
                if not under_way:
                    if over:
                        return
                    raise SteerworksError("the source of calls waits for rows under way, and there are none")
                done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                if failed := _failure(done):
                    # what else is there is paid for
                    more, under_way = wait(under_way, timeout=GRACE)
                    yield from self._saved([d.result() for d in done | more if d.exception() is None], steered)
                    raise failed
                for answer in (d.result() for d in done):
                    if answer.plan.interventions:
                        steered.append(answer)
                    else:
                        yield self._finished(answer, None)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _complete(self, server: Running, index: int, asked: Prepared) -> _Answer:
        began, nonce = time.perf_counter(), uuid.uuid4().hex
        adapter = asked.call.plan.adapter
        model = self._name if adapter is None else self._named(adapter)
        body = completion_body(model, asked.call, asked.tokens, asked.room, sorted(self._ends), nonce)
        choice = server.complete(body, None if (draft := asked.call.draft) is None else self._told(draft))
        written = [int(t) for t in choice["token_ids"]]
        stopped = choice["finish_reason"] == "stop"
        seconds = time.perf_counter() - began
        return _Answer(index, asked.call.plan, len(asked.tokens), written, stopped, nonce, seconds)

    def _told(self, draft: Draft) -> Callable[[list[int]], None]:
        return lambda tokens: draft(self._write.draft([t for t in tokens if t not in self._ends]))

    def _saved(self, arrived: Sequence[_Answer], steered: Sequence[_Answer]) -> Iterator[Finished]:
        """What can be handed over after a failure: plain answers, and steered ones whose receipts can still be had."""
        yield from (self._finished(a, None) for a in arrived if not a.plan.interventions)
        with contextlib.suppress(SteerworksError):
            # a server that died has taken its receipts along; the failure itself is what is raised
            yield from self._proven([*steered, *(a for a in arrived if a.plan.interventions)])

    def _proven(self, answers: Sequence[_Answer]) -> Iterator[Finished]:
        """Answers with their receipts."""
        found = receipts_of(self._server(), [a.nonce for a in answers])
        for a in answers:
            # the last token that was written was never read
            fed = a.prompt + len(a.tokens) - 1
            receipt = worker_receipt(a.index, a.plan.interventions, a.prompt, fed, found.get(a.nonce))
            yield self._finished(a, receipt.to_json())

    def _finished(self, answer: _Answer, receipt: str | None) -> Finished:
        tokens = answer.tokens
        if answer.stopped and tokens and tokens[-1] in self._ends:
            tokens = tokens[:-1]
        finish: Literal["stop", "length"] = "stop" if answer.stopped else "length"
        written = Generation(self._write(tokens), finish, answer.prompt, len(answer.tokens), answer.seconds, receipt)
        return Finished(answer.index, written)


#: What a source that has ended gives.
_OVER: Any = object()


def _failure(done: Iterable[Future[_Answer]]) -> BaseException | None:
    return next((error for d in done if (error := d.exception()) is not None), None)


def receipts_of(server: Running, nonces: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What the worker did for each request, by nonce; those that it never tells of are left out."""
    found: dict[str, dict[str, Any]] = {}
    for _ in range(LOOKS):
        missing = [n for n in nonces if n not in found]
        if not missing:
            break
        found |= {n: rows[0] for n, rows in server.receipts(missing).items() if rows}
        if len(found) < len(nonces):
            # the worker hears of an answer's end with its next pass
            time.sleep(0.05)
    return found
