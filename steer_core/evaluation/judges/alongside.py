"""A judge at work while answers are still being written: cases in as they come, judgements kept as they end.

1. It works in a thread, so its backend must be another than the one that writes: backends are asked by one thread.
2. `room` cases wait at most; who brings more waits for the judge.
3. What is judged, under which key and in which words, is what `judge_cases` would ask for afterwards; what it has kept,
   `judge_cases` finds done.
4. A judge that fails wants no more cases (`put` says so), and its error is raised once what was being written has
   ended. When who writes fails, the judge ends the batch that it is at, keeps it, and leaves the rest for later.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from types import TracebackType

import polars as pl

from steer_core.evaluation.judges.judge import Case, Judge, judged
from steer_core.generation.journalled import FLUSH_SECONDS, CutShortError

#: Cases that wait at most.
ROOM = 1024


class Alongside:
    """Judges what is put to it, in a thread, inside its context.

    Args:
        keep: given rows of `judgements`, a batch of them or those of `FLUSH_SECONDS`; called in the thread.
        done: rows of `judgements` so far, of any judges: they are not asked for again.
        batch_size: cases put to a judge together.
        room: cases that wait at most.
        clock: seconds.

    Raises:
        Exception: on leaving the context, whatever the judge failed with, unless it is left by another error.
    """

    def __init__(
        self,
        keep: Callable[[pl.DataFrame], None],
        done: pl.DataFrame,
        *,
        batch_size: int = 64,
        room: int = ROOM,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._keep, self._batch_size, self._room = keep, batch_size, room
        self._known = set(done.select("judge_id", "rubric", "response_id", "item_id", "repeat").iter_rows())
        self._waiting: deque[tuple[Judge, Case, int]] = deque()
        self._change = threading.Condition()
        self._over = self._stopped = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="judging", daemon=True)

    def put(self, judge: Judge, cases: Iterable[Case]) -> bool:
        """Have cases judged, those that are not yet; waits while too many wait.

        Returns:
            Whether more is wanted: False once a judge has failed.
        """
        head = (judge.judge_id, judge.rubric)
        for case in cases:
            for repeat in range(judge.repeats):
                key = (*head, case.response_id, case.item_id, repeat)
                if key in self._known:
                    continue
                self._known.add(key)
                with self._change:
                    self._change.wait_for(lambda: len(self._waiting) < self._room or self._error is not None)
                    if self._error is not None:
                        return False
                    self._waiting.append((judge, case, repeat))
                    self._change.notify_all()
        return self._error is None

    def __enter__(self) -> Alongside:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._change:
            self._over, self._stopped = True, error is not None
            self._change.notify_all()
        self._thread.join()
        if self._error is not None and (error is None or isinstance(error, CutShortError)):
            raise self._error from None

    def _work(self) -> None:
        rows: list[pl.DataFrame] = []
        since = self._clock()

        def flush() -> None:
            if rows:
                self._keep(pl.concat(rows))
                rows.clear()

        try:
            try:
                while batch := self._batch():
                    # a batch is of one judge, the one whose case has waited longest
                    rows.append(judged(batch[0][0], [(case, repeat) for _, case, repeat in batch]))
                    # answers may come one by one, and what is kept is a file each time
                    if sum(r.height for r in rows) >= self._batch_size or self._clock() - since >= FLUSH_SECONDS:
                        flush()
                        since = self._clock()
            finally:
                flush()
        except BaseException as error:
            with self._change:
                self._error = error
                self._change.notify_all()

    def _batch(self) -> list[tuple[Judge, Case, int]]:
        """What is judged next; empty where nothing more comes."""
        with self._change:
            self._change.wait_for(lambda: self._waiting or self._over)
            if self._stopped or not self._waiting:
                return []
            first = self._waiting[0][0]
            own = [one for one in self._waiting if one[0] is first][: self._batch_size]
            taken = {id(one) for one in own}
            self._waiting = deque(one for one in self._waiting if id(one) not in taken)
            self._change.notify_all()
            return own
