"""vLLM without its server: an engine in a process of its own, asked over a pipe, one line of JSON a message.

What is asked and answered is what `vllm serve` is asked and answers (`servers.asked`), and the engine is started with
the same words, so that answers are the same tokens. A receipt comes in one line with its answer: whatever arrived stays
good when the process dies.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any

from steer_core.generation.servers.command import ServeOptions, offline_command
from steer_core.generation.servers.process import ServerError, VllmProcess
from steer_core.generation.servers.proof import vector_body
from steer_core.steering.vector import SteeringVector
from steer_core.tables.errors import SteerworksError


class OfflineEngine:
    """An engine of one model. Made by `start`.

    Attributes:
        log: file with what it writes.
    """

    def __init__(self, process: VllmProcess) -> None:
        self.log = process.log
        self._process: VllmProcess | None = process
        self._numbers, self._lock = itertools.count(1), threading.Lock()
        #: number 0 is the engine's word that it is ready
        self._waiting: dict[int, Future[Any]] = {0: Future()}
        #: of those who are told while it writes: tokens since the last time, None at the end
        self._told: dict[int, SimpleQueue[list[int] | None]] = {}
        self._receipts: dict[str, list[dict[str, Any]]] = {}
        self._gone: ServerError | None = None
        threading.Thread(target=self._read, args=(process, self._waiting[0]), daemon=True).start()

    @classmethod
    def start(
        cls, python: Path, options: ServeOptions, folder: Path | None = None, timeout: float = 600.0
    ) -> OfflineEngine:
        """Start an engine, and wait until it is ready.

        Args:
            python: interpreter of the environment that has vLLM.
            options: what is run, and how.
            folder: for its log and what goes into that environment; None: a temporary one, removed when it stops.
            timeout: seconds that it may take.

        Raises:
            ConfigError: no such environment, or no vLLM in it.
            ServerError: it did not start; says why, what to do, and shows the end of its log.
        """
        process = VllmProcess.start(python, options, lambda vllm: offline_command(vllm, options), folder, piped=True)
        engine = cls(process)
        try:
            engine._waiting[0].result(timeout)
            for name, where in options.adapters.items():
                engine.load_adapter(name, Path(where))
        except FutureTimeoutError:
            why = process.why()
            engine.stop()
            raise ServerError(f"vLLM was not ready within {timeout:g} seconds: {why}") from None
        except BaseException:
            engine.stop()
            raise
        return engine

    def _read(self, process: VllmProcess, ready: Future[Any]) -> None:
        """Hand out what comes, until nothing more can."""
        assert process.child.stdout is not None
        for line in process.child.stdout:
            # a kill may cut the last one
            if line.endswith(b"\n"):
                self._take(json.loads(line))
        with contextlib.suppress(Exception):
            # nothing more is read or written: it is of no use, if it lives
            process.child.wait(10)
        under_way = len(self._waiting)
        what = "ended" if ready.done() else "did not start"
        requests = f" with {under_way} requests under way" if ready.done() and under_way else ""
        gone = ServerError(f"vLLM {what}{requests}: {process.why()}")
        with self._lock:
            self._gone, lost, told = gone, list(self._waiting.values()), list(self._told.values())
            self._waiting, self._told = {}, {}
        for future in lost:
            future.set_exception(gone)
        for pieces in told:
            pieces.put(None)

    def _take(self, said: dict[str, Any]) -> None:
        number = said["id"]
        with self._lock:
            pieces = self._told.get(number)
            if "written" in said:
                if pieces is not None:
                    pieces.put(said["written"])
                return
            # nobody waits for the answer to what was dropped, where it had ended before the engine heard of that
            future = self._waiting.pop(number, None)
            self._told.pop(number, None)
            if future is None:
                return
            if "receipt" in said:
                self._receipts.setdefault(said["receipt"]["nonce"], []).append(said["receipt"])
        if "error" in said:
            future.set_exception(ServerError(f"vLLM refused: {said['error']}", said["status"]))
        else:
            future.set_result(said["answer"])
        if pieces is not None:
            pieces.put(None)

    def _ask(self, verb: str, **more: Any) -> Any:
        return self._send(verb, None, **more)[1].result()

    def _send(self, verb: str, pieces: SimpleQueue[list[int] | None] | None, **more: Any) -> tuple[int, Future[Any]]:
        """The number of what was asked, and its answer to come."""
        future: Future[Any] = Future()
        with self._lock:
            if self._gone is not None:
                raise self._gone
            if self._process is None:
                raise ServerError("this engine was stopped")
            number = next(self._numbers)
            self._waiting[number] = future
            if pieces is not None:
                self._told[number] = pieces
            line = json.dumps({"id": number, "verb": verb, **more}).encode() + b"\n"
            assert self._process.child.stdin is not None
            # where it has died, the reader says so to whoever waits
            with contextlib.suppress(OSError):
                self._process.child.stdin.write(line)
                self._process.child.stdin.flush()
        return number, future

    def complete(self, body: dict[str, Any], told: Callable[[list[int]], None] | None = None) -> dict[str, Any]:
        """The answer to a request of `/v1/completions`: its first choice.

        Args:
            body: of the request.
            told: told its tokens so far as they come; what that raises ends the request.

        Raises:
            ServerError: it refused, or has ended.
        """
        if told is None:
            answer: dict[str, Any] = self._ask("complete", body=body)
            return answer
        pieces: SimpleQueue[list[int] | None] = SimpleQueue()
        number, future = self._send("complete", pieces, body={**body, "stream": True})
        tokens: list[int] = []
        try:
            while (piece := pieces.get()) is not None:
                tokens += piece
                told(list(tokens))
        except BaseException:
            # where it has ended meanwhile there is nothing to drop
            with contextlib.suppress(ServerError):
                self._ask("drop", number=number)
            with self._lock:
                self._told.pop(number, None)
                self._waiting.pop(number, None)
            raise
        found: dict[str, Any] = future.result()
        return found

    def call(self, method: str, *arguments: Any) -> Any:
        """What a method of the worker returns.

        Raises:
            ServerError: it raised, or the engine has ended.
        """
        return self._ask("call", method=method, arguments=list(arguments))

    def upload(self, vectors: Iterable[SteeringVector]) -> None:
        """Let requests refer to further vectors, by id.

        Raises:
            SteerworksError: one does not fit the model; those before it were taken in.
        """
        for vector in vectors:
            said = self.call("steer_upload", vector_body(vector))
            if "error" in said:
                raise SteerworksError(f"the vector of {vector.concept!r} at layer {vector.layer}: {said['error']}")

    def receipts(self, nonces: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
        """What the worker did, by nonce; they came with the answers, and are given once, also when it has ended."""
        with self._lock:
            return {n: self._receipts.pop(n) for n in nonces if n in self._receipts}

    def holds(self) -> int:
        """How many vectors its worker holds."""
        return int(self.call("steer_state")["vectors"])

    def load_adapter(self, name: str, folder: Path) -> None:
        """Let requests name a further LoRA adapter as their model.

        Raises:
            ServerError: it cannot be loaded; says why.
        """
        self._ask("load_adapter", name=name, folder=str(folder))

    def healthy(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None and self._gone is None

    def sleep(self) -> None:
        """Let go of the device's memory, once requests under way have ended; weights wait in the machine's own.

        Raises:
            ServerError: it does not: it was started without `sleeps`, or has ended.
        """
        if not self._ask("sleep"):
            raise ServerError("the engine was told to sleep, and does not: start it with `sleeps`")

    def wake(self) -> None:
        """Take the device's memory again; what is cached of prompts is gone.

        Raises:
            ServerError: it does not wake: the memory is taken by somebody else, or it has ended.
        """
        if self._ask("wake"):
            raise ServerError("the engine was woken, and still sleeps: look for what holds the device's memory")

    def stop(self, grace: float = 20.0) -> None:
        """End it, with its whole process group.

        Args:
            grace: seconds until it is killed.
        """
        process, self._process = self._process, None
        if process is not None:
            process.stop(grace)

    def __enter__(self) -> OfflineEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
