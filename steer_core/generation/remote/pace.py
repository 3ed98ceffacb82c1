"""How many requests are in flight, and how fast they follow each other."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping

from schemas.endpoints import Endpoint

_SPAN = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")


class Pace:
    """The limits of one address; used in one event loop.

    The limit of requests in flight is halved when the endpoint says that it is too much (once for all that were in
    flight then), and grows by one after as many answers as it allows (additive increase, multiplicative decrease:
    Chiu and Jain 1989). What the endpoint asks to wait, nobody sends.

    Args:
        endpoint: limits.
        clock: seconds.

    Attributes:
        in_flight: requests that have a turn.
        limit: most of them, by now.
    """

    def __init__(self, endpoint: Endpoint, clock: Callable[[], float] = time.monotonic) -> None:
        from aiolimiter import AsyncLimiter

        self.most = endpoint.concurrency
        self.limit = endpoint.concurrency
        self.in_flight = 0
        self._clock = clock
        self._clean = 0
        self._until = 0.0
        self._halved = -math.inf

        def limiter(per_minute: float | None) -> AsyncLimiter | None:
            if per_minute is None:
                return None
            # a second's worth may come at once, and no more: endpoints count in windows of their own
            at_once = max(1.0, per_minute / 60.0)
            return AsyncLimiter(at_once, 60.0 * at_once / per_minute)

        self._requests, self._tokens = limiter(endpoint.requests_per_minute), limiter(endpoint.tokens_per_minute)

    def wait(self) -> float:
        """Seconds that nobody may send; 0 or less: none."""
        return self._until - self._clock()

    def free(self) -> bool:
        """Whether a request may have a turn now."""
        return self.in_flight < self.limit and self.wait() <= 0.0

    async def rate(self, tokens: int) -> None:
        """Wait until the rate limits let a request of so many tokens through."""
        if self._requests is not None:
            await self._requests.acquire()
        if self._tokens is not None:
            await self._tokens.acquire(min(float(tokens), self._tokens.max_rate))

    def over(self, began: float, *, clean: bool = False, too_much: bool = False, wait: float = 0.0) -> None:
        """A request has ended.

        Args:
            began: when it was sent.
            clean: whether it was answered.
            too_much: whether the endpoint said that it is too much.
            wait: seconds that nobody may send.
        """
        self.in_flight -= 1
        if too_much:
            self._clean = 0
            if began > self._halved:
                self.limit, self._halved = max(1, self.limit // 2), self._clock()
        elif clean:
            self._clean += 1
            if self._clean >= self.limit and self.limit < self.most:
                self.limit, self._clean = self.limit + 1, 0
        self._until = max(self._until, self._clock() + wait)


def wait_said(headers: Mapping[str, str]) -> float:
    """Seconds until the endpoint takes requests or tokens again, where its headers say that none are left; else 0."""
    wait = 0.0
    for kind in ("requests", "tokens"):
        if headers.get(f"x-ratelimit-remaining-{kind}") in ("0", "0.0"):
            wait = max(wait, _seconds(headers.get(f"x-ratelimit-reset-{kind}", "")))
    return wait


def _seconds(text: str) -> float:
    """Seconds of a span such as `1m30s`, `250ms` or `2`; 0 where it is none."""
    try:
        return min(60.0, max(0.0, float(text)))
    except ValueError:
        found = _SPAN.fullmatch(text.strip())
    if found is None:
        return 0.0
    hours, minutes, seconds, thousandths = (float(g or 0) for g in found.groups())
    return min(60.0, 3600 * hours + 60 * minutes + seconds + thousandths / 1e3)
