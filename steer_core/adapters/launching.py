"""Several processes of this machine that train one adapter: started by `accelerate launch`, and ended with this one.

    FOLDER/job.json        what they train (`Group.job`)
    FOLDER/log             what they and their launcher print
    FOLDER/messages.jsonl  what the first of them tells: lines, and figures of steps
    FOLDER/failed.json     why the first that failed did
    FOLDER/held            locked while they are wanted: they end when it no longer is, however this process ends

The launcher puts each of them into a session of its own, so that no signal to a group reaches them: the lock does.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from steer_core.tables import errors
from steer_core.tables.errors import SteerworksError

#: What each process runs, with the job's file as its argument.
WORKER = "steer_core.methods.parts._adapter_worker"
#: Variables of processes that share the CPU. The trainer's devices would be `cpu:0` and so on, to which torch reads no
#: state of an optimiser when a run goes on.
ON_CPU = {"ACCELERATE_USE_CPU": "true", "ACCELERATE_TORCH_DEVICE": "cpu"}
#: Seconds between two looks at the processes, and those that they have to end by themselves.
LOOK_EVERY, GRACE = 0.1, 20.0
#: Lines of the log that an error shows.
TAIL = 20


@dataclass(frozen=True)
class Told:
    """Who is told of a training run.

    Attributes:
        say: given a line of what happens.
        observe: given the figures of each step.
    """

    say: Callable[[str], None]
    observe: Callable[[int, Mapping[str, float]], None]

    def take(self, message: Mapping[str, Any]) -> None:
        """Pass on a message, `said` or `observed`."""
        if "said" in message:
            self.say(str(message["said"]))
        else:
            figures = {n: math.nan if v is None else float(v) for n, v in message["figures"].items()}
            self.observe(int(message["step"]), figures)


def said(line: str) -> dict[str, Any]:
    """A line as a message."""
    return {"said": line}


def observed(step: int, figures: Mapping[str, float]) -> dict[str, Any]:
    """Figures of a step as a message; what is no number is null, as JSON has it."""
    return {"step": step, "figures": {n: v if math.isfinite(v) else None for n, v in figures.items()}}


@dataclass(frozen=True)
class Group:
    """Processes that are to train together.

    Attributes:
        folder: theirs, emptied when they are planned.
        size: how many.
        on_cpu: whether they share the CPU, and have no GPU each.
        teller: module that the first process tells of the run by (`telling`); None: by a file that `launched` reads.
        environment: further variables of theirs.
        worker: module that each of them runs.
    """

    folder: Path
    size: int
    on_cpu: bool
    teller: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    worker: str = WORKER

    @property
    def job(self) -> Path:
        """The file that says what they train."""
        return self.folder / "job.json"

    def plan(self, job: str) -> None:
        """Empty the folder, and write down what they train."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.job.write_text(job, encoding="utf-8")

    def command(self) -> list[str]:
        """Words of the command; `--multi_gpu` is the launcher's name for several processes, on a CPU as well."""
        launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", str(self.size)]
        # all that a configuration of the user's would decide otherwise; a port that is free
        launch += ["--num_machines", "1", "--gpu_ids", "all", "--mixed_precision", "no", "--dynamo_backend", "no"]
        launch += ["--main_process_port", "0", "--max_restarts", "0"]
        return [*launch, "-m", self.worker, str(self.job), *([self.teller] if self.teller else [])]

    def variables(self) -> dict[str, str]:
        """Variables beside those of this process."""
        if not self.on_cpu:
            return dict(self.environment)
        # a launcher that is told nothing gives each process one thread
        threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // self.size))
        return {**ON_CPU, "OMP_NUM_THREADS": threads, **self.environment}

    def failure(self, status: int) -> SteerworksError:
        """What there is to say of processes that ended in a failure."""
        with contextlib.suppress(OSError, ValueError, KeyError):
            found = json.loads((self.folder / "failed.json").read_text(encoding="utf-8"))
            kind = getattr(errors, found["kind"], SteerworksError)
            error: SteerworksError = kind(found["said"])
            return error
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
        lines = (self.folder / "log").read_text(encoding="utf-8", errors="replace").splitlines()
        # what the launcher says of a process comes after what the process has said itself
        first = next((n for n, line in enumerate(lines) if "distributed" in line and "elastic" in line), len(lines))
        shown = "\n".join((lines[:first] or lines)[-TAIL:])
        return SteerworksError(
            f"the {self.size} processes that train the adapter ended with {how}; {self.folder / 'log'} ends in\n{shown}"
        )


def shown_cards(numbers: Sequence[int]) -> dict[str, str]:
    """The variable that shows a process some of the cards that this one sees, by their numbers here; empty for none."""
    own = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return {"CUDA_VISIBLE_DEVICES": ",".join(own[n] if own else str(n) for n in numbers)} if numbers else {}


#: Starts a group, and comes back when it has ended; told of the run in this thread.
Launch = Callable[[Group, Told], None]


def launched(group: Group, told: Told) -> None:
    """Start the processes of a group and pass on what the first of them writes down, until they have ended.

    Raises:
        SteerworksError: they failed, with what the first that failed said, in the class that it raised.
    """
    messages = group.folder / "messages.jsonl"
    messages.touch()
    with messages.open("rb") as file:

        def pass_on() -> None:
            while (line := file.readline()).endswith(b"\n"):
                told.take(json.loads(line))
            # to where a line begins that is not written to its end yet
            file.seek(-len(line), os.SEEK_CUR)

        run(group, {}, pass_on)


def run(group: Group, variables: Mapping[str, str], meanwhile: Callable[[], None]) -> None:
    """Start the processes of a group, and wait until they have ended; they end when this process does.

    Args:
        group: which.
        variables: of their environment, beside its own.
        meanwhile: called again and again while they run, and once after it.

    Raises:
        SteerworksError: they failed.
    """
    environment = {**os.environ, **group.variables(), **variables}
    with (group.folder / "log").open("wb") as log, _held(group.folder / "held") as let_go:
        child = subprocess.Popen(
            group.command(),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # Ctrl-C is ours to pass on
            start_new_session=True,
        )
        try:
            while child.poll() is None:
                meanwhile()
                time.sleep(LOOK_EVERY)
        finally:
            let_go()
            _end(child)
    meanwhile()
    if child.returncode:
        raise group.failure(child.returncode)


@contextlib.contextmanager
def _held(lock: Path) -> Iterator[Callable[[], None]]:
    """Hold what the processes wait for; gives what lets go of it."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield lambda: fcntl.flock(file, fcntl.LOCK_UN)


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a launcher that runs still: its processes end, and it after them."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if child.poll() is None:
            child.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(GRACE)
