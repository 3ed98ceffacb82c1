"""Scoring in this process or in several: texts in, rows of values out, in order. Imports no table library."""

from __future__ import annotations

import collections
import concurrent.futures
import concurrent.futures.process
import gc
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias, TypeVar

from steer_core.goals.analysis import Analyzer
from steer_core.goals.scorer import Scorer

ItemT = TypeVar("ItemT")

#: Values of some texts: one list per scorer, each in the order of the texts.
Values = list[list[float | None]]

_Ahead: TypeAlias = tuple[ItemT, concurrent.futures.Future[Values] | None, str]


class ScorerFailedError(RuntimeError):
    """A scorer failed on a text; the message names both. `measure` turns it into a `ScoringError`."""


def score_texts(keys: Sequence[str], texts: Sequence[str], scorers: Sequence[Scorer], analyzer: Analyzer) -> Values:
    """Run scorers over texts, each text analysed once.

    Args:
        keys: text ids, for error messages.
        texts: texts.
        scorers: scorers.
        analyzer: makes the analyses.

    Returns:
        One list of values per scorer.

    Raises:
        ScorerFailedError: names the scorer and the first text that it fails on.
    """
    analyses = analyzer.analyse_all(texts)
    values: Values = []
    for scorer in scorers:
        try:
            values.append(scorer.measure(analyses))
        except Exception as error:
            raise ScorerFailedError(_blame(scorer, keys, texts, analyzer, error)) from error
        if len(values[-1]) != len(texts):
            raise ScorerFailedError(
                f"scorer {scorer.scorer_id} returned {len(values[-1])} values for {len(texts)} texts: "
                "`measure` must return one value (or None) per text"
            )
    return values


def _blame(scorer: Scorer, keys: Sequence[str], texts: Sequence[str], analyzer: Analyzer, error: Exception) -> str:
    """Find the text at fault by scoring one at a time; some failures (a full GPU) have none."""
    for key, text in zip(keys, texts, strict=True):
        try:
            scorer.measure([analyzer.analyse(text)])
        except Exception as alone:
            start = text[:60].encode("ascii", "backslashreplace").decode("ascii")
            return (
                f"scorer {scorer.scorer_id} failed on text_id {key} ({len(text)} characters, starts {start!r}): "
                f"{type(alone).__name__}: {alone}"
            )
    return (
        f"scorer {scorer.scorer_id} failed on a batch of {len(texts)} texts from text_id {keys[0]} on, though on none "
        f"of them alone: {type(error).__name__}: {error}"
    )


_worker: tuple[Sequence[Scorer], Analyzer] | None = None


def _start_worker(scorers: bytes) -> None:
    """Set a worker process up: own analyzer, and Ctrl-C left to the parent, which stops the pool."""
    global _worker  # the one way to hand state to a pool's worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _worker = pickle.loads(scorers), Analyzer()
    # the memo is large and holds no cycles: looking through it again and again for garbage costs a sixth of the time
    gc.set_threshold(100_000, 50, 100)


def _end_with_parent() -> None:
    """End this process when the parent dies, also by SIGKILL: the pool's queue would keep it waiting for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _score_in_worker(keys: Sequence[str], texts: Sequence[str], which: Sequence[int]) -> Values:
    assert _worker is not None
    scorers, analyzer = _worker
    return score_texts(keys, texts, [scorers[w] for w in which], analyzer)


class Pool:
    """Scorers at work in `workers` processes; use it as a context manager. One worker means this process.

    Processes are spawned, so that they inherit neither threads nor locks; leaving the block stops them, also on
    Ctrl-C or an error.
    """

    def __init__(self, scorers: Sequence[Scorer], workers: int, analyzer: Analyzer | None = None) -> None:
        self._scorers = scorers
        self._analyzer = analyzer
        self._workers = workers
        self._executor: concurrent.futures.ProcessPoolExecutor | None = None

    def __enter__(self) -> Pool:
        if self._workers == 1:
            self._analyzer = self._analyzer or Analyzer()
        else:
            self._executor = concurrent.futures.ProcessPoolExecutor(
                self._workers,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_start_worker,
                initargs=(pickle.dumps(tuple(self._scorers)),),
            )
        return self

    def __exit__(self, *exception: object) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)

    def map(
        self, items: Iterable[ItemT], call_of: Callable[[ItemT], tuple[Sequence[str], Sequence[str], Sequence[int]]]
    ) -> Iterator[tuple[ItemT, Values]]:
        """Score items in order, a few ahead of the reader: memory is bounded by `2 * workers` items.

        Args:
            items: batches of any kind.
            call_of: keys and texts of an item, and the positions of the scorers to run; without texts nothing is run.

        Yields:
            Each item with the values of its texts, one list per scorer run.

        Raises:
            ScorerFailedError: a scorer failed, or a worker process died (out of memory, killed).
        """
        if self._executor is None:
            assert self._analyzer is not None, "use the pool in a `with` block"
            for item in items:
                keys, texts, which = call_of(item)
                yield item, score_texts(keys, texts, [self._scorers[w] for w in which], self._analyzer) if texts else []
            return
        ahead: collections.deque[_Ahead[ItemT]] = collections.deque()
        for item in items:
            keys, texts, which = call_of(item)
            try:
                future = self._executor.submit(_score_in_worker, keys, texts, which) if texts else None
            except concurrent.futures.process.BrokenProcessPool as error:
                raise _died(keys[0]) from error
            ahead.append((item, future, keys[0] if keys else ""))
            if len(ahead) >= 2 * self._workers:
                yield self._next(ahead)
        while ahead:
            yield self._next(ahead)

    def _next(self, ahead: collections.deque[_Ahead[ItemT]]) -> tuple[ItemT, Values]:
        item, future, first = ahead.popleft()
        try:
            return item, future.result() if future else []
        except concurrent.futures.process.BrokenProcessPool as error:
            raise _died(first) from error


def _died(first: str) -> ScorerFailedError:
    return ScorerFailedError(
        f"a scoring process died while the batch that starts with text_id {first} was under way: it was "
        "killed, perhaps for memory; use fewer workers or smaller chunks; finished chunks are in the cache"
    )
