"""Calls in, answers out: attempts in flight side by side, in a thread of their own."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import Any

from steer_core.generation.backend import Call, Finished
from steer_core.generation.remote.addresses import Address, Addresses, Standing, most_in_flight
from steer_core.generation.remote.client import attempt
from steer_core.generation.remote.faults import EndpointError, Fault
from steer_core.generation.remote.ledger import BudgetError, Claim, Ledger, Reply
from steer_core.generation.remote.request import Request, Wire, generation_of
from steer_core.tables.errors import SteerworksError

#: Longest pause between two attempts at a row, seconds.
LONGEST_PAUSE = 30.0
#: Seconds between two looks at what another process has under way, or at money that is set aside.
LOOK = 0.2
#: Seconds that answers in flight are waited for when the caller wants no more.
GRACE = 10.0


class Stop(Exception):  # noqa: N818  (it is no error: a row that is not sent any more)
    """The run ends before this row was sent."""


@dataclass(frozen=True)
class Job:
    """A request that is wanted once.

    Attributes:
        key: what its reply is kept under.
        plan_id: of the plan behind it.
        request: what is sent.
    """

    key: str
    plan_id: str
    request: Request


class Pump:
    """Answers the calls of one source.

    Args:
        wire: requests and replies.
        ledger: where attempts are kept.
        execution: fingerprint, which keys of answers hold.
        standing: what is known of the addresses; what is found out is added, for those who ask later.
    """

    def __init__(self, wire: Wire, ledger: Ledger, execution: str, standing: Standing | None = None) -> None:
        self._wire, self._ledger, self._execution = wire, ledger, execution
        self._said, self._most = wire.endpoint, most_in_flight(wire)
        self._standing = standing or Standing()
        self._stop: SteerworksError | None = None
        self._heard = time.monotonic()
        self._given_up: list[Reply] = []

    def answers(self, calls: Iterable[Call | None]) -> Iterator[Finished]:
        """Answers as they come, in any order; every one is in the ledger before it is given.

        Raises:
            EndpointError: the endpoint will answer nothing, or rows are left without an answer; everything that came
                was given before.
            BudgetError: the money is spent.
            SteerworksError: a call cannot be said to this endpoint.
        """
        for index, reply in self.replies(self._jobs(calls)):
            yield Finished(index, generation_of(reply))

    def _jobs(self, calls: Iterable[Call | None]) -> Iterator[Job | None]:
        for call in calls:
            # what cannot be said is refused here, before anything is sent for it
            yield (
                None if call is None else Job(call.response_id(self._execution), call.plan.id, self._wire.request(call))
            )

    def replies(self, jobs: Iterable[Job | None]) -> Iterator[tuple[int, Reply]]:
        """Replies as they come, in any order, each with the index of its job; None among jobs: nothing for now.

        Raises:
            EndpointError, BudgetError: as `answers`.
        """
        inbox: SimpleQueue[tuple[int, Reply | BaseException]] = SimpleQueue()
        source, over, taken, open_rows = iter(jobs), False, 0, 0
        with _Loop(self._begin, self._finish) as loop:
            while True:
                while not over and self._stop is None and open_rows < 2 * self._most:
                    try:
                        job = next(source)
                    except StopIteration:
                        over = True
                        break
                    if job is None:
                        break
                    loop.start(self._row(job), _into(inbox, taken))
                    taken, open_rows = taken + 1, open_rows + 1
                if not open_rows:
                    break
                index, found = inbox.get()
                open_rows -= 1
                if isinstance(found, Reply):
                    yield index, found
                elif not isinstance(found, Stop):
                    # a fault of ours: nothing may hide it
                    raise found
        if self._stop is not None:
            raise self._stop
        if self._given_up:
            last = self._given_up[-1]
            raise EndpointError(
                f"{len(self._given_up)} of {taken} rows have no answer from {self._addresses.named} (the last: "
                f"{last.detail}). All others are kept: run again, and only these are asked"
            )
        if not over:
            raise SteerworksError("the source of calls waits for rows under way, and there are none")

    def _begin(self) -> None:
        """Make what belongs to the loop, in its thread."""
        self._addresses = Addresses(self._wire, self._standing)

    async def _finish(self) -> None:
        self._addresses.tell()
        await self._addresses.close()

    async def _row(self, job: Job) -> Reply:
        """The reply to a job, after as many attempts as it takes."""
        key, request = job.key, job.request
        tries = number = 0
        refused, last = set[Address](), None
        while True:
            if (held := self._ledger.answered([key]).get(key)) is not None:
                return held
            tokens = request.most_prompt + request.most_new
            address, began = await self._addresses.turn(tokens, never=refused, avoid=last)
            # only who has a turn sets money aside: what a killed process loses is what was in flight
            claim = self._claim(job, number + 1, address)
            if claim is None:
                await self._addresses.over(address, began)
                if self._stop is not None:
                    raise Stop
                await asyncio.sleep(LOOK)
                continue
            number, last = number + 1, address
            found, wait = await self._sent(claim, request, address)
            if isinstance(found, Reply):
                await self._addresses.over(address, began, clean=True, wait=wait)
                return found
            too_much = found.remedy == "wait"
            wait = max(wait, found.wait or 0.0) if too_much else wait
            await self._addresses.over(address, began, too_much=too_much, wait=wait)
            if found.remedy == "final":
                return found.reply
            if found.remedy == "stop":
                refused.add(address)
            tries += not too_much
            try:
                self._judge(found, began, tries, address, refused)
            finally:
                if self._stop is not None:
                    await self._addresses.end()
            # told to wait, everybody waits; otherwise this row does, so that not all come back at once
            pause = min(LONGEST_PAUSE, self._said.backoff * 2 ** max(0, tries - 1)) * random.uniform(0.5, 1.0)
            await asyncio.sleep(pause if not too_much or found.wait is None else 0.0)

    def _claim(self, job: Job, number: int, address: Address) -> Claim | None:
        """The right to send; None where the run stops, another process is at it, or money set aside is in the way."""
        if self._stop is not None:
            return None
        try:
            claim = self._ledger.claim(
                job.key, job.plan_id, number, self._wire.reserve(job.request), address=address.wire.shown
            )
        except BudgetError as error:
            self._stop = error
            return None
        if claim == "batched":
            self._stop = EndpointError(
                "rows of this run are in a batch that was not collected: `steerworks batch collect` takes what has come"
            )
        if claim == "theirs":
            # or was at it, and is dead
            self._ledger.under_way(job.key)
        return claim if isinstance(claim, Claim) else None

    async def _sent(self, claim: Claim, request: Request, address: Address) -> tuple[Reply | Fault, float]:
        """Send, and keep what came of it."""
        try:
            found, wait = await attempt(address.client, address.wire, request)
        except BaseException:
            # whoever was told of it wants no more, or the run ends: nobody knows what it cost, so it counts as paid
            self._ledger.settle(claim, Reply("cut", detail="stopped while it was written"))
            raise
        reply = found if isinstance(found, Reply) else found.reply
        if isinstance(found, Fault) and (reply.status or 0) >= 400 and reply.cost is None:
            # who answers with an error takes no money
            reply = replace(reply, cost=0.0)
        self._ledger.settle(claim, reply)
        if isinstance(found, Reply):
            address.answered()
            self._heard = time.monotonic()
        return found, wait

    def _judge(self, fault: Fault, began: float, tries: int, address: Address, refused: set[Address]) -> None:
        """Give an address or a row up, or stop the run, where a fault means that.

        Raises:
            Stop: there is no use in asking for the row again.
        """
        reply, live = fault.reply, self._addresses.live
        alone = live == [address]
        if (why := address.failed(fault, began, alone=alone)) is not None:
            none_left = self._addresses.give_up(address, why)
            if none_left is not None:
                self._stop = self._stop or EndpointError(none_left)
        elif time.monotonic() - self._heard > self._said.patience:
            self._stop = self._stop or EndpointError(
                f"{self._addresses.named}: no answer for {self._said.patience:g} s (the last reply: {reply.detail}). "
                "All answers so far are kept: run again later, or lower `endpoint.concurrency`"
            )
        if self._stop is not None:
            raise Stop
        if address.gone is not None:
            # another one is asked
            return
        # what one refuses another may take
        if tries >= self._said.attempts or (fault.remedy == "stop" and not set(live) - refused):
            self._given_up.append(reply)
            raise Stop


def _into(inbox: SimpleQueue[Any], index: int) -> Callable[[Future[Any]], None]:
    def put(done: Future[Any]) -> None:
        error = done.exception() if not done.cancelled() else Stop()
        inbox.put((index, done.result() if error is None else error))

    return put


class _Loop:
    """An event loop in a thread.

    Args:
        begin: called in the thread before anything else.
        finish: awaited in it at the end.
    """

    def __init__(self, begin: Callable[[], None], finish: Callable[[], Awaitable[None]]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="steerworks-endpoint", daemon=True)
        self._begin, self._finish, self._rows = begin, finish, set[Future[Any]]()
        self._begun = False

    def __enter__(self) -> _Loop:
        self._thread.start()

        async def begun() -> None:
            self._begin()
            self._begun = True

        try:
            asyncio.run_coroutine_threadsafe(begun(), self._loop).result()
        except BaseException:
            self._end()
            raise
        return self

    def start(self, row: Any, then: Callable[[Future[Any]], None]) -> None:
        """Run a coroutine; `then` is told in the loop's thread."""
        future = asyncio.run_coroutine_threadsafe(row, self._loop)
        self._rows.add(future)
        future.add_done_callback(self._rows.discard)
        future.add_done_callback(then)

    def __exit__(self, *error: object) -> None:
        # what is in flight is paid for: it may still arrive
        until = time.monotonic() + GRACE
        while self._rows and time.monotonic() < until and error[0] is not GeneratorExit:
            time.sleep(0.01)
        self._end()

    def _end(self) -> None:
        async def ended() -> None:
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            await asyncio.sleep(0)
            if self._begun:
                await self._finish()
            # replies that broke off while they came leave their readers behind
            await asyncio.get_running_loop().shutdown_asyncgens()

        asyncio.run_coroutine_threadsafe(ended(), self._loop).result(timeout=GRACE)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(GRACE)
        self._loop.close()
