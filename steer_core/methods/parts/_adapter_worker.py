"""One of several processes that train an adapter: `python -m` this module, with a job's file, under a launcher.

A second argument names a module whose `telling()` is a context that gives the first process whom it tells of the run;
without it, it writes messages beside the job.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from dataclasses import replace
from pathlib import Path

from steer_core.adapters.launched import end_with_starter, fail, telling
from steer_core.adapters.launching import TAIL
from steer_core.adapters.ranks import Ranks
from steer_core.adapters.recipe import train
from steer_core.methods.parts._adapter_job import Job
from steer_core.tables.errors import SteerworksError


def main(job: Path, teller: str | None = None) -> None:
    """Train, as one of those that the launcher has started."""
    folder = job.parent
    end_with_starter(folder)
    try:
        _train(Job.model_validate_json(job.read_text(encoding="utf-8")), folder, teller)
    except SteerworksError as error:
        fail(folder, type(error).__name__, str(error))
        raise
    except Exception as error:
        lines = "".join(traceback.format_exception(error)).splitlines()[-TAIL:]
        where = f"process {os.environ.get('RANK')} of those that train the adapter failed"
        fail(folder, SteerworksError.__name__, "\n".join([f"{where}: {error!r}; it ends in", *lines]))
        raise


def _train(job: Job, folder: Path, teller: str | None) -> None:
    from accelerate import PartialState  # type: ignore[import-untyped]

    state = PartialState(cpu=job.on_cpu)
    ranks = Ranks(state.process_index, state.num_processes)
    if ranks.size != job.model.training_processes:
        raise SteerworksError(f"{job.model.training_processes} processes were asked for, and {ranks.size} have started")
    training = job.training(ranks)
    with telling(folder, teller) if ranks.first else contextlib.nullcontext() as told:
        if told is not None:
            training = replace(training, say=told.say, observe=told.observe)
        train(job.recipe, training)
        # none ends while another still needs it
        ranks.wait()
    state.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
