"""How far the work of a cell is: a line in the run's log now and then, and whoever listens in this process."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

#: Seconds between two lines of the log: each is a row in Dagster's database.
EVERY = 15.0

#: Called with (what, done, total).
Listener = Callable[[str, int, int], None]

_listeners: list[Listener] = []


@contextlib.contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Tell a listener of all progress in this process, for a while."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


@dataclass
class Reporter:
    """Takes (done, total) of one stretch of work.

    Attributes:
        log: the run's logger.
        cell: key of the cell.
        what: what is counted, in the plural.
    """

    log: Any
    cell: str
    what: str
    _begun: float = field(default_factory=time.monotonic)
    _said: float = field(default_factory=time.monotonic)
    _first: int | None = None

    def __call__(self, done: int, total: int) -> None:
        """Pass it on; the log gets the end, and a line each `EVERY` seconds, with what is left at this rate."""
        for listener in _listeners:
            listener(self.what, done, total)
        now = time.monotonic()
        if self._first is None:
            # what was found in the journal costs no time and says nothing of the rate
            self._first = done
        if done < total and now - self._said < EVERY:
            return
        self._said = now
        rate = (done - self._first) / (now - self._begun) if now > self._begun else 0.0
        left = f", about {(total - done) / rate:.0f} s left" if rate and done < total else ""
        self.log.info("%s: %d of %d %s%s", self.cell, done, total, self.what, left)
