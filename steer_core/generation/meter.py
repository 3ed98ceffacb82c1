"""What generation took, for whoever asks meanwhile: answers, tokens, and the time in which the model was at work."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")


@dataclass
class Meter:
    """Sums since it began.

    Attributes:
        answers: answers that a model wrote; those of the journal cost nothing.
        prompt_tokens: tokens of their prompts.
        new_tokens: tokens written.
        busy: seconds in which an engine was asked and had not answered.
        paid: currency -> money that endpoints took.
    """

    answers: int = 0
    prompt_tokens: int = 0
    new_tokens: int = 0
    busy: float = 0.0
    paid: dict[str, float] = field(default_factory=dict)


_meters: list[Meter] = []
_lock = threading.Lock()


@contextlib.contextmanager
def metering() -> Iterator[Meter]:
    """Count all generation of this process for a while."""
    meter = Meter()
    _meters.append(meter)
    try:
        yield meter
    finally:
        # by identity: meters of equal sums are equal
        _meters[:] = [m for m in _meters if m is not meter]


def counted(prompt_tokens: int, new_tokens: int) -> None:
    """An answer was written."""
    for meter in _meters:
        meter.answers += 1
        meter.prompt_tokens += prompt_tokens
        meter.new_tokens += new_tokens


def paid(money: float, currency: str) -> None:
    """An endpoint took money; it answers in threads of its own."""
    with _lock:
        for meter in _meters:
            meter.paid[currency] = meter.paid.get(currency, 0.0) + money


def timed(answers: Iterable[T]) -> Iterator[T]:
    """The same answers; the time until each comes is the engine's, and what is done with it is not."""
    source = iter(answers)
    try:
        while True:
            begun = time.monotonic()
            try:
                answer = next(source)
            except StopIteration:
                return
            finally:
                for meter in _meters:
                    meter.busy += time.monotonic() - begun
            yield answer
    finally:
        # whoever stops early stops the engine
        getattr(source, "close", lambda: None)()
