"""One of several processes that train an adapter: `python -m` this module, with a job's file, under a launcher.

A second argument names a module whose `telling()` is a context that gives the first process whom it tells of the run;
without it, it writes messages beside the job.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import json
import os
import sys
import threading
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from steer_core.adapters.launching import TAIL, Told, observed, said
from steer_core.adapters.ranks import Ranks
from steer_core.adapters.recipe import train
from steer_core.methods.parts._adapter_job import Job
from steer_core.tables.errors import SteerworksError


def main(job: Path, teller: str | None = None) -> None:
    """Train, as one of those that the launcher has started."""
    threading.Thread(target=_end_with_starter, args=(job.parent / "held",), daemon=True).start()
    try:
        _train(Job.model_validate_json(job.read_text(encoding="utf-8")), job.parent, teller)
    except SteerworksError as error:
        _fail(job.parent, type(error).__name__, str(error))
        raise
    except Exception as error:
        lines = "".join(traceback.format_exception(error)).splitlines()[-TAIL:]
        where = f"process {os.environ.get('RANK')} of those that train the adapter failed"
        _fail(job.parent, SteerworksError.__name__, "\n".join([f"{where}: {error!r}; it ends in", *lines]))
        raise


def _train(job: Job, folder: Path, teller: str | None) -> None:
    from accelerate import PartialState  # type: ignore[import-untyped]

    state = PartialState(cpu=job.on_cpu)
    ranks = Ranks(state.process_index, state.num_processes)
    if ranks.size != job.model.training_processes:
        raise SteerworksError(f"{job.model.training_processes} processes were asked for, and {ranks.size} have started")
    training = job.training(ranks)
    with _telling(folder, teller) if ranks.first else contextlib.nullcontext() as told:
        if told is not None:
            training = replace(training, say=told.say, observe=told.observe)
        train(job.recipe, training)
        # none ends while another still needs it
        ranks.wait()
    state.destroy_process_group()


@contextlib.contextmanager
def _telling(folder: Path, teller: str | None) -> Iterator[Told]:
    """Whom the first process tells."""
    if teller is not None:
        with importlib.import_module(teller).telling() as told:
            yield told
        return
    with (folder / "messages.jsonl").open("a", encoding="utf-8") as file:

        def write(message: dict[str, Any]) -> None:
            file.write(json.dumps(message, ensure_ascii=False) + "\n")
            file.flush()

        yield Told(lambda line: write(said(line)), lambda step, figures: write(observed(step, figures)))


def _fail(folder: Path, kind: str, what: str) -> None:
    """Write down why, if nobody has before: others fail because the first has."""
    with contextlib.suppress(FileExistsError), (folder / "failed.json").open("x", encoding="utf-8") as file:
        json.dump({"kind": kind, "said": what}, file, ensure_ascii=False)


def _end_with_starter(held: Path) -> None:
    """End when the process that started this one no longer holds its lock."""
    with held.open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        print("what started this process has ended, or wants it no longer", file=sys.stderr, flush=True)
        os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
