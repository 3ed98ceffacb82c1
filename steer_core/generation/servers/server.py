"""A running `vllm serve`: started and stopped from here, or one that is there already.

    with Server.start(python, ServeOptions("/models/llama", name="llama")) as server:
        server.upload(vectors)
        answer = server.post("/v1/completions", {"model": "llama", "prompt": [3, 4, 5], "vllm_xargs": {"steer": text}})
        receipts = server.receipts([nonce])

What it starts is a process group of its own, with its output in a log file. It ends with the context, with `stop`, or
with the interpreter.
"""

from __future__ import annotations

import http.client
import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from steer_core.generation.servers.command import ServeOptions, command_line
from steer_core.generation.servers.process import ServerError, VllmProcess
from steer_core.generation.servers.proof import vector_body
from steer_core.steering.vector import SteeringVector
from steer_core.tables.errors import SteerworksError

HOST = "127.0.0.1"


class Server:
    """A server of one model, at an address. Made by `start` or `attach`.

    Attributes:
        address: `http://host:port`.
        log: file with what it writes; None for one that was there already.
    """

    def __init__(self, address: str, process: VllmProcess | None = None) -> None:
        self.address, self.log = address, None if process is None else process.log
        self._process = process

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
        chosen = _free_port() if port is None else _wanted_port(port)
        process = VllmProcess.start(python, options, lambda vllm: command_line(vllm, options, HOST, chosen), folder)
        server = cls(f"http://{HOST}:{chosen}", process)
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
            if self._process is not None and self._process.poll() is not None:
                raise ServerError(f"vLLM did not start: {self._process.why()}")
            if time.monotonic() > end:
                if self._process is None:
                    raise ServerError(f"nothing answers at {self.address}/health after {timeout:g} seconds")
                raise ServerError(
                    f"vLLM did not answer at {self.address} within {timeout:g} seconds: {self._process.why()}"
                )
            time.sleep(0.25)

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
        return self._fetch(path, json.dumps(body).encode(), timeout)

    def _fetch(self, path: str, body: bytes | None = None, timeout: float = 600.0) -> Any:
        with self._answer(path, body, timeout) as answer:
            text = answer.read().decode()
        try:
            return json.loads(text)
        except ValueError:
            # some paths answer in plain words
            return text

    @contextmanager
    def _answer(self, path: str, body: bytes | None = None, timeout: float = 600.0) -> Iterator[Any]:
        """The answer of a path, to be read; what goes wrong meanwhile is the server's."""
        request = urllib.request.Request(self.address + path, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                yield answer
        except urllib.error.HTTPError as error:
            said = _message(error.read().decode(errors="replace"))
            # an engine that died says no more than that
            why = f"; {self._process.why()}" if self._process is not None and error.code >= 500 else ""
            raise ServerError(f"{self.address}{path} answered {error.code}: {said}{why}", error.code) from error
        except (OSError, http.client.HTTPException) as error:
            why = "" if self._process is None else f": {self._process.why()}"
            raise ServerError(f"{self.address}{path} does not answer ({error}){why}") from error

    def complete(self, body: dict[str, Any], told: Callable[[list[int]], None] | None = None) -> dict[str, Any]:
        """The answer to a request of `/v1/completions`: its first choice.

        Args:
            body: of the request.
            told: told its tokens so far as they come; what that raises ends the request.

        Raises:
            ServerError: it refused, or does not answer.
        """
        if told is None:
            choice: dict[str, Any] = self.post("/v1/completions", body)["choices"][0]
            return choice
        path, tokens, finish = "/v1/completions", list[int](), None
        with self._answer(path, json.dumps({**body, "stream": True}).encode()) as answer:
            for event in events(answer):
                if "error" in event:
                    raise ServerError(f"{self.address}{path} broke off: {_message(json.dumps(event))}")
                for choice in event["choices"]:
                    tokens += [int(t) for t in choice.get("token_ids") or ()]
                    finish = choice.get("finish_reason") or finish
                told(list(tokens))
        if finish is None:
            raise ServerError(f"{self.address}{path} broke off after {len(tokens)} tokens: ask again")
        return {"token_ids": tokens, "finish_reason": finish}

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

    def models(self) -> list[dict[str, Any]]:
        """What it lists: models, and adapters with their `parent` and `root`.

        Raises:
            ServerError: it does not answer.
        """
        found: list[dict[str, Any]] = self._fetch("/v1/models")["data"]
        return found

    def holds(self) -> int:
        """How many vectors its worker holds."""
        return int(self.call("steer_state")["vectors"])

    def sleep(self) -> None:
        """Let go of the device's memory, once requests under way have ended; weights wait in the machine's own.

        Raises:
            ServerError: it does not: it was started without `sleeps`, or does not answer.
        """
        self._fetch("/sleep?level=1&mode=wait", b"")
        if not self._fetch("/is_sleeping")["is_sleeping"]:
            raise ServerError(f"{self.address} was told to sleep, and does not: start it with `sleeps`")

    def wake(self) -> None:
        """Take the device's memory again; what is cached of prompts is gone.

        Raises:
            ServerError: it does not wake: the memory is taken by somebody else, or it does not answer.
        """
        self._fetch("/wake_up", b"")
        if self._fetch("/is_sleeping")["is_sleeping"]:
            raise ServerError(f"{self.address} was woken, and still sleeps: look for what holds the device's memory")

    def stop(self, grace: float = 20.0) -> None:
        """End what was started here, with its whole process group; does nothing for one that was there already.

        Args:
            grace: seconds until it is killed.
        """
        process, self._process = self._process, None
        if process is not None:
            process.stop(grace)

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def events(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The JSON of each event of a stream (`text/event-stream`), up to its `[DONE]`."""
    for line in lines:
        name, _, said = line.strip().partition(b":")
        if name != b"data":
            continue
        if said.strip() == b"[DONE]":
            return
        yield json.loads(said)


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
