"""Answers told while they are written: a line of JSON for each look at the text so far, and one for what came of it.

{"draft": "The baker", "attempt": 1}
{"draft": "The baker sells", "attempt": 1}
{"html": "<h3>..."}                          or {"error": "...", "status": 409}
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from steer_core.generation.run import Drafts
from steer_core.reports.text import clip
from steer_core.tables.errors import SteerworksError

#: What a request says that it takes, and what it gets.
LINES = "application/x-ndjson"
#: Seconds between two looks at a text that is being written.
LOOK = 0.05


class StoppedError(SteerworksError):
    """Whoever asked has gone: the answer is not written to its end."""


class _Telling:
    """Takes texts in the thread that writes them, and gives them to the loop that sends them."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._last = 0.0
        self._attempt = 0
        self.lines: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self.gone = threading.Event()

    def __call__(self, number: int, text: str) -> None:
        """Of several attempts that are written at once, the last one is told.

        Raises:
            StoppedError: nobody listens any more.
        """
        if self.gone.is_set():
            raise StoppedError("the page that asked was closed, or said stop")
        now = time.monotonic()
        if number < self._attempt or (number == self._attempt and now - self._last < LOOK):
            return
        self._attempt, self._last = number, now
        self.put({"draft": clip(text).text, "attempt": number + 1})

    def put(self, line: dict[str, Any] | None) -> None:
        """From whatever thread; None: nothing more comes."""
        self._loop.call_soon_threadsafe(self.lines.put_nowait, line)


def streamed(ask: Callable[[Drafts], Any], said: Callable[[Callable[[], Any]], Response]) -> Response:
    """The lines of one question.

    Args:
        ask: asks, in a thread of its own; who is told may end it by raising.
        said: makes the whole response out of what `ask` returns or raises.
    """

    async def lines() -> AsyncIterator[bytes]:
        telling = _Telling()

        def whole() -> None:
            try:
                response = said(lambda: ask(telling))
                text = bytes(response.body).decode()
                good = response.status_code == 200
                telling.put({"html": text} if good else {"error": text, "status": response.status_code})
            except Exception:
                logging.getLogger(__name__).exception("an answer failed")
                telling.put({"error": "this failed; the terminal says why", "status": 500})
            finally:
                telling.put(None)

        asking = asyncio.ensure_future(run_in_threadpool(whole))
        try:
            while (line := await telling.lines.get()) is not None:
                yield json.dumps(line, ensure_ascii=False).encode() + b"\n"
            await asking
        finally:
            telling.gone.set()

    return StreamingResponse(lines(), media_type=LINES)
