"""A running `vllm serve`: started and stopped from here, or one that is there already.

    with Server.start(python, ServeOptions("/models/llama", name="llama")) as server:
        server.upload(vectors)
        answer = server.post("/v1/completions", {"model": "llama", "prompt": [3, 4, 5], "vllm_xargs": {"steer": text}})
        receipts = server.receipts([nonce])

What it starts is a process group of its own, with its output in a log file. It ends with the context, with `stop`, or
with the interpreter.
"""

from __future__ import annotations

import atexit
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from steer_core.generation.servers.command import ServeOptions, command_line, process_environment
from steer_core.generation.servers.proof import vector_body
from steer_core.generation.servers.remedies import explain
from steer_core.generation.servers.room import find_vllm, make_room
from steer_core.steering.vector import SteeringVector
from steer_core.tables.errors import SteerworksError

HOST = "127.0.0.1"
#: Bytes at the end of a log that are looked at for causes.
_LOG_END = 200_000


class ServerError(SteerworksError):
    """A server that did not start, does not answer, or refused a request.

    Attributes:
        status: of the HTTP answer; None where there was none.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class Server:
    """A server of one model, at an address. Made by `start` or `attach`.

    Attributes:
        address: `http://host:port`.
        log: file with what it writes; None for one that was there already.
    """

    def __init__(self, address: str, process: subprocess.Popen[bytes] | None = None, log: Path | None = None) -> None:
        self.address, self.log = address, log
        self._process = process
        self._temporary: Path | None = None

    @classmethod
    def start(
        cls,
        python: Path,
        options: ServeOptions,
        folder: Path | None = None,
        port: int | None = None,
        timeout: float = 600.0,
    ) -> Server:
        """Start a server, and wait until it answers.

        Args:
            python: interpreter of the environment that has vLLM.
            options: what is served, and how.
            folder: for its log and what goes into that environment; None: a temporary one, removed when it stops.
            port: None: a free one is chosen.
            timeout: seconds that it may take.

        Raises:
            ConfigError: no such environment, or no vLLM in it.
            ServerError: it did not start; says why, what to do, and shows the end of its log.
        """
        vllm = find_vllm(python)
        temporary = None if folder else Path(tempfile.mkdtemp(prefix="steerworks-vllm-"))
        folder = folder or temporary
        assert folder is not None
        chosen = _free_port() if port is None else _wanted_port(port)
        room = make_room(folder.absolute(), vllm, options.steered)
        log = folder / "server.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command_line(vllm, options, HOST, chosen),
                env=process_environment(room, os.environ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # a group of its own: its engine and workers end with it, and Ctrl-C is ours to pass on
                start_new_session=True,
            )
        server = cls(f"http://{HOST}:{chosen}", process, log)
        server._temporary = temporary
        atexit.register(server.stop)
        try:
            server._wait(timeout)
        except BaseException:
            server.stop()
            raise
        return server

    @classmethod
    def attach(cls, address: str, timeout: float = 10.0) -> Server:
        """A server that is there already; `stop` leaves it alone.

        Raises:
            ServerError: nothing answers at that address.
        """
        server = cls(address.rstrip("/"))
        server._wait(timeout)
        return server

    def _wait(self, timeout: float) -> None:
        end = time.monotonic() + timeout
        while not self.healthy():
            code = None if self._process is None else self._process.poll()
            if code is not None:
                raise ServerError(f"vLLM did not start: {explain(self._said(), code)}")
            if time.monotonic() > end:
                if self._process is None:
                    raise ServerError(f"nothing answers at {self.address}/health after {timeout:g} seconds")
                raise ServerError(
                    f"vLLM did not answer at {self.address} within {timeout:g} seconds: {explain(self._said(), None)}"
                )
            time.sleep(0.25)

    def _said(self) -> str:
        if self.log is None:
            return ""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - _LOG_END))
            return file.read().decode(errors="replace")

    def healthy(self) -> bool:
        """Whether it answers and its engine lives."""
        if self._process is not None and self._process.poll() is not None:
            return False
        try:
            with urllib.request.urlopen(f"{self.address}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except (OSError, http.client.HTTPException):
            return False

    def post(self, path: str, body: dict[str, Any], timeout: float = 600.0) -> Any:
        """The JSON that a path answers with.

        Raises:
            ServerError: it refused (`status` says how), or does not answer.
        """
        request = urllib.request.Request(
            self.address + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                text = answer.read().decode()
        except urllib.error.HTTPError as error:
            said = error.read().decode(errors="replace")
            raise ServerError(f"{self.address}{path} answered {error.code}: {_message(said)}", error.code) from error
        except (OSError, http.client.HTTPException) as error:
            code = None if self._process is None else self._process.poll()
            why = "" if self.log is None else f": {explain(self._said(), code)}"
            raise ServerError(f"{self.address}{path} does not answer ({error}){why}") from error
        try:
            return json.loads(text)
        except ValueError:
            # some paths answer in plain words
            return text

    def call(self, method: str, *arguments: Any) -> Any:
        """What a method of the worker returns.

        Raises:
            ServerError: it does not answer, or its worker is not ours.
        """
        found = self.post("/collective_rpc", {"method": method, "args": list(arguments)})
        return found["results"][0]

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
        """What the worker did, by nonce; one entry for each sample of a request. A receipt is given once."""
        found: dict[str, list[dict[str, Any]]] = self.call("steer_receipts", list(nonces))
        return found

    def load_adapter(self, name: str, folder: Path) -> None:
        """Let requests name a further LoRA adapter as their model.

        Raises:
            ServerError: it cannot be loaded; says why.
        """
        self.post("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(folder)})

    def stop(self, grace: float = 20.0) -> None:
        """End what was started here, with its whole process group; does nothing for one that was there already.

        Args:
            grace: seconds until it is killed.
        """
        process, self._process = self._process, None
        if process is None:
            return
        atexit.unregister(self.stop)
        for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, 5.0)):
            # to the group: its engine may outlive it
            _signal(process.pid, number)
            end = time.monotonic() + patience
            while time.monotonic() < end and (process.poll() is None or _alive(process.pid)):
                time.sleep(0.05)
        process.wait()
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _signal(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _wanted_port(port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise ServerError(
                f"port {port} is taken ({error.strerror}): give another one, or none, and a free one is chosen"
            ) from error
    return port


def _message(said: str) -> str:
    """The message of an error's JSON, or what there is instead."""
    try:
        body = json.loads(said)
        return str(body["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return said[:500]
