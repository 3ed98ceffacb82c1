"""Goal scorers of a bench, ready to measure, with the value cache of the storage root."""

from __future__ import annotations

import contextlib
import functools
import os
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from schemas.digest import digest_text
from schemas.specs import BenchSpec, ModelSpec
from steer_assets.settings import registry, storage_root
from steer_core.goals.cache import GoalCache
from steer_core.goals.measure import measure, measure_stream
from steer_core.goals.ruler import ruler_by
from steer_core.goals.scorer import Scorer, load_scorer
from steer_core.goals.space import GoalSpace
from steer_core.models.info import gguf_file, model_folder
from steer_core.models.loading import digest_folder, fingerprint_of
from steer_core.tables.errors import SteerworksError
from steer_core.tables.files import filesystem, is_local, join, open_file

if TYPE_CHECKING:
    from steer_core.generation.run import Listener, Ruler
    from steer_core.tables.journal import Journal

#: Parts of the journal that a speed is read from.
SPEED_PARTS = 8


def model_digest(model: ModelSpec) -> str:
    """What the answers of a model follow from: its identity, and for a folder the files in it."""
    if gguf_file(model) is not None:
        return f"{model.identity}:{fingerprint_of(model)}"
    folder = model_folder(model)
    if folder is None or not folder.is_dir():
        return model.identity
    stamp = tuple(sorted((p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in folder.iterdir()))
    return f"{model.identity}:{_folder_digest(folder, stamp)}"


def judge_digest(model: ModelSpec) -> str:
    """What the verdicts of a judge follow from: its answers, and whether its endpoint gives log-probabilities instead.

    `scores` of an endpoint is no part of a model's identity, or setting it would have every answer paid for again.
    """
    scored = model.endpoint is not None and model.endpoint.scores is not None
    return model_digest(model) + (":by log-probabilities" if scored else "")


@functools.lru_cache(maxsize=16)
def _folder_digest(folder: Path, stamp: tuple[object, ...]) -> str:
    return digest_folder(folder)


#: Texts that are measured aside together, and seconds after which fewer are.
ASIDE_TEXTS, ASIDE_SECONDS = 256, 30.0
#: Texts from which starting worker processes pays.
WORTH_WORKERS = 20_000


def scorers_of(bench: BenchSpec) -> dict[str, Scorer]:
    """Goal -> scorer, in the order of the axes."""
    return {name: load_scorer(goal) for name, goal in registry().goals_of(bench).items()}


def scorer_ids(bench: BenchSpec) -> dict[str, str]:
    """Goal -> scorer id, in the order of the axes."""
    return {name: scorer.scorer_id for name, scorer in scorers_of(bench).items()}


def measure_texts(bench: BenchSpec, texts: pl.DataFrame) -> pl.DataFrame:
    """`goal_values` of texts (columns text_id, text), through the cache; values are kept across benches and runs."""
    cache = None
    fs, path = filesystem(storage_root())
    if is_local(fs):
        cache = GoalCache(join(path, "goal_value_cache"))
    workers = min(os.cpu_count() or 1, 8) if texts.height >= WORTH_WORKERS else 1
    return measure(texts.select("text_id", "text"), list(scorers_of(bench).values()), workers=workers, cache=cache)


@contextlib.contextmanager
def measuring_aside(bench: BenchSpec, device: str | None, workers: int = 2) -> Iterator[Listener | None]:
    """A listener whose texts are measured by other processes while the model writes on; their values go to the cache.

    None on a CPU, where measuring would take the time of the model, and where the storage keeps no cache: texts are
    then measured when all are written. A scorer that fails stops nothing here; it fails where its values are wanted.

    Args:
        bench: its goals are measured.
        device: where the model runs.
        workers: processes.
    """
    fs, path = filesystem(storage_root())
    if device == "cpu" or not is_local(fs):
        yield None
        return
    waiting: queue.SimpleQueue[list[str] | None] = queue.SimpleQueue()
    stopped = threading.Event()

    def batches() -> Iterator[pl.DataFrame]:
        seen: set[str] = set()
        over = False
        while not over:
            # a batch is a file of the cache: some texts, or those of some time
            new, until = [], time.monotonic() + ASIDE_SECONDS
            while len(new) < ASIDE_TEXTS and not over:
                try:
                    texts = waiting.get(timeout=max(0.0, until - time.monotonic()))
                except queue.Empty:
                    break
                over = texts is None
                for text in texts or ():
                    if text not in seen:
                        seen.add(text)
                        new.append(text)
            if new:
                yield pl.DataFrame({"text_id": [digest_text(t) for t in new], "text": new}, schema=_TEXTS)

    def work() -> None:
        cache = GoalCache(join(path, "goal_value_cache"))
        try:
            for _ in measure_stream(batches(), list(scorers_of(bench).values()), workers=workers, cache=cache):
                pass
        except SteerworksError:
            pass
        finally:
            stopped.set()

    def listen(texts: Sequence[str]) -> None:
        if not stopped.is_set():
            waiting.put(list(texts))

    thread = threading.Thread(target=work, name="measuring", daemon=True)
    thread.start()
    try:
        yield listen
    finally:
        waiting.put(None)
        thread.join()


_TEXTS = {"text_id": pl.String, "text": pl.String}


def ruler_of(bench: BenchSpec, space: GoalSpace) -> Ruler:
    """Texts to positions in goal space, for methods that measure their own attempts."""
    return ruler_by(functools.partial(measure_texts, bench), space)


def seconds_per_token(journal: Journal) -> float | None:
    """How fast the model has written so far, from two columns of a few parts; None before anything was written."""
    parts = journal.parts()
    seconds = tokens = 0.0
    for part in parts[:: max(1, len(parts) // SPEED_PARTS)]:
        with open_file(part) as file:
            found = pl.read_parquet(file.read(), columns=["seconds", "completion_tokens"])
        seconds, tokens = seconds + found["seconds"].sum(), tokens + found["completion_tokens"].sum()
    return seconds / tokens if tokens else None
