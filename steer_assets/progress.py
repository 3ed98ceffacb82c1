"""How far the work of a cell is: a line in the run's log now and then, and whoever listens in this process."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from steer_assets import interrupts

#: Seconds between two lines of the log: each is a row in Dagster's database.
EVERY = 15.0
#: Steps of training between two lines.
SAY_STEPS = 5


class Listener(Protocol):
    """What the demo's bar is: told what this process does."""

    def begins(self, what: str) -> None:
        """A table is being made."""

    def counts(self, what: str, done: int, total: int) -> None:
        """So many of so many."""

    def says(self, line: str) -> None:
        """Something that a person should read now."""


_listeners: list[Listener] = []


@contextlib.contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Tell a listener of all progress in this process, for a while."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def begins(what: str) -> None:
    """Tell listeners that a table is being made; with Ctrl-C pressed it is not."""
    interrupts.check()
    for listener in _listeners:
        listener.begins(what)


def says(line: str) -> None:
    """Tell listeners something that a person should read now."""
    for listener in _listeners:
        listener.says(line)


#: Takes a step of training and its figures; a run's node sets where they go.
_curves: list[Callable[[int, Mapping[str, float]], None]] = []


@contextlib.contextmanager
def drawing(curve: Callable[[int, Mapping[str, float]], None]) -> Iterator[None]:
    """Hand the figures of every step of training in this process to somebody, for a while."""
    _curves.append(curve)
    try:
        yield
    finally:
        _curves.remove(curve)


def observed(cell: str, step: int, figures: Mapping[str, float]) -> None:
    """Tell whoever draws of a step of training, and listeners now and then."""
    for curve in _curves:
        curve(step, figures)
    if step == 1 or step % SAY_STEPS == 0:
        shown = ", ".join(f"{n} {figures[n]:.3g}" for n in ("reward", "loss", "kl") if n in figures)
        says(f"{cell}: step {step} of training, {shown}")


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
        interrupts.check()
        for listener in _listeners:
            listener.counts(self.what, done, total)
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
