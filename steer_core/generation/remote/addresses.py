"""The addresses at which one model answers: which of them is asked next, and which is given up.

1. A request goes where the fewest are in flight, among those that may be sent to now; of equals to the one that was
   asked least. Each address has a pace of its own (`pace`).
2. A row that failed at one is next asked at another, where another may be asked.
3. An address that answers nothing any more is given up, which is said once, as long as another one is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from steer_core.generation.remote.client import UNREACHABLE, open_client
from steer_core.generation.remote.faults import LONGEST_WAIT, Fault
from steer_core.generation.remote.ledger import Reply
from steer_core.generation.remote.pace import Pace
from steer_core.generation.remote.request import Wire

_log = logging.getLogger(__name__)
#: Attempts without a connection, one after the other, after which an address is called unreachable.
UNCONNECTED = 4
#: Rows that are refused one after the other, before one was answered: then it is no matter of the row.
REFUSED = 3
#: Rounds of errors without an answer between them after which an address is given up, where there is another. What was
#: in flight together fails together: that is one round.
FAILING = 5


@dataclass
class Standing:
    """What is known of a model's addresses from one run of questions to the next.

    Attributes:
        given_up: address -> why it is not asked any more.
        turns: address -> how often it was chosen.
    """

    given_up: dict[str, str] = field(default_factory=dict)
    turns: Counter[str] = field(default_factory=Counter)


@dataclass(eq=False)
class Address:
    """An address, and how it does.

    Attributes:
        wire: requests and replies there.
        client: sends.
        pace: its limits.
        answers: requests that were answered.
        gone: why it is given up; None while it is asked.
    """

    wire: Wire
    client: Any
    pace: Pace
    answers: int = 0
    gone: str | None = None
    _unconnected: int = 0
    _refused: int = 0
    _failing: int = 0
    _since: float = field(default=-math.inf)

    @property
    def url(self) -> str:
        """Where it is."""
        return self.wire.address

    def answered(self) -> None:
        """It has answered."""
        self.answers += 1
        self._unconnected = self._refused = self._failing = 0

    def failed(self, fault: Fault, began: float, *, alone: bool) -> str | None:
        """Why there is no use in asking it again, in a sentence; None where there may be.

        Args:
            fault: what an attempt came to.
            began: when that was sent.
            alone: whether no other address is left: then only what no retry helps is the end, as patience has its own.
        """
        reply = fault.reply
        self._unconnected += fault.advice == UNREACHABLE
        self._refused += fault.remedy == "stop"
        if began > self._since and fault.remedy == "again":
            self._failing, self._since = self._failing + 1, time.monotonic()
        if fault.remedy == "stop" and (not of_the_row(reply) or (not self.answers and self._refused >= REFUSED)):
            return f"{self.url}: {reply.detail}: {fault.advice}"
        if self._unconnected >= UNCONNECTED and not (alone and self.answers):
            return f"{self.url}: {reply.detail}: {UNREACHABLE}"
        if fault.wait is not None and fault.wait > LONGEST_WAIT:
            return (
                f"{self.url} asks to wait {fault.wait:.0f} s before the next request: run again then; nothing is lost"
            )
        if self._failing >= FAILING and not alone:
            return f"{self.url}: {reply.detail}: no answer in {FAILING} rounds of attempts"
        return None


def of_the_row(reply: Reply) -> bool:
    """Whether a refusal may be of what was asked, and not of who asked or where."""
    return reply.status in (400, 413, 422)


class Addresses:
    """All addresses of a model; made and used in one event loop.

    Args:
        wire: of the model.
        standing: what is known; those that are given up are not asked, unless all of them are. It is kept up.
        clock: seconds.

    Raises:
        ConfigError: the client or a key is missing.
    """

    def __init__(self, wire: Wire, standing: Standing, clock: Callable[[], float] = time.monotonic) -> None:
        self._all = [Address(w, open_client(w), Pace(w.endpoint, clock)) for w in wire.everywhere()]
        self._clock, self._standing = clock, standing
        self._changed, self._ended = asyncio.Condition(), False
        if all(a.url in standing.given_up for a in self._all):
            standing.given_up.clear()
        for address in self._all:
            address.gone = standing.given_up.get(address.url)

    @property
    def live(self) -> list[Address]:
        """Those that are asked."""
        return [a for a in self._all if a.gone is None]

    @property
    def named(self) -> str:
        """All of them, for a message."""
        return ", ".join(a.url for a in self._all)

    async def end(self) -> None:
        """Let all who wait for a turn have it: they find that the run stops."""
        async with self._changed:
            self._ended = True
            self._changed.notify_all()

    async def turn(
        self, tokens: int, *, never: Collection[Address] = (), avoid: Address | None = None
    ) -> tuple[Address, float]:
        """Wait until one may be asked.

        Args:
            tokens: that the request may take.
            never: those that will not answer it, while there are others.
            avoid: the one that is taken where no other is free.

        Returns:
            The address, and the time, to be given back to `over`.
        """
        while True:
            address = await self._free(never, avoid)
            await address.pace.rate(tokens)
            if self._ended or (address.gone is None and address.pace.wait() <= 0.0):
                return address, self._clock()
            # meanwhile it was given up, or asked to be left alone
            await self.over(address, -math.inf)

    async def _free(self, never: Collection[Address], avoid: Address | None) -> Address:
        async with self._changed:
            while True:
                able = [a for a in self.live if a not in never] or self.live
                if free := self._all if self._ended else [a for a in able if a.pace.free()]:
                    chosen = min(free, key=lambda a: (a is avoid, a.pace.in_flight, self._standing.turns[a.url]))
                    chosen.pace.in_flight += 1
                    self._standing.turns[chosen.url] += 1
                    return chosen
                wait = min((w for a in able if (w := a.pace.wait()) > 0.0), default=None)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._changed.wait()

    async def over(
        self, address: Address, began: float, *, clean: bool = False, too_much: bool = False, wait: float = 0.0
    ) -> None:
        """A request has ended, or was not sent (`Pace.over`)."""
        async with self._changed:
            address.pace.over(began, clean=clean, too_much=too_much, wait=wait)
            self._changed.notify_all()

    def give_up(self, address: Address, why: str) -> str | None:
        """Ask an address no more.

        Returns:
            Where it was the last one, why none is left, in words; None where others go on, and that is said.
        """
        if address.gone is not None:
            return None
        address.gone = self._standing.given_up[address.url] = why
        if left := self.live:
            _log.warning("%s; it is given up, and %d of %d addresses go on", why, len(left), len(self._all))
            return None
        whole = [str(a.gone) for a in self._all]
        return whole[0] if len(whole) == 1 else f"none of {len(whole)} addresses answers: {'; '.join(whole)}"

    def tell(self) -> None:
        """Say what each has answered, where there are several."""
        if len(self._all) > 1 and (answers := sum(a.answers for a in self._all)):
            shares = ", ".join(f"{a.url} {a.answers} ({a.answers / answers:.0%})" for a in self._all)
            _log.info("%d answers: %s", answers, shares)

    async def close(self) -> None:
        """Let go of the connections."""
        for address in self._all:
            await address.client.close()


def most_in_flight(wire: Wire) -> int:
    """Requests in flight at most, at all addresses together."""
    return sum(w.endpoint.concurrency for w in wire.everywhere())
