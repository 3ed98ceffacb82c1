"""A server that speaks OpenAI's protocol and goes wrong as it is told; run as a process of its own, or in a thread.

    python tests/fake_endpoint.py PORT LOG '{"faults": {"429": 0.1}, "seed": 0}'

Every completed piece of work is a line of LOG: what a vendor would bill. Faults are drawn by request: `429` (with
Retry-After), `500`, `reset` (the connection is cut before the work), `cut` (after the work: billed, and lost), `half`
(half of the JSON), `html` (a web page with 200), `inside` (200 with an error in it), `slow`.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


@dataclass
class Script:
    """How the server behaves.

    Attributes:
        faults: kind -> share of requests.
        seed: of what is drawn.
        delay: seconds of work.
        retry_after: header of a 429.
        per_second: requests a second beyond which it answers 429; None: no limit.
        key: the only key that is taken; None: any.
        always: a fault of every request: status, body, headers.
        answers: words in a prompt -> how it is answered (`refuse`, `filter`, `truncate`, `empty`, `think`, `overlong`),
            or what says so of the prompt.
        hold: words in a prompt -> words of another; it is answered when a prompt with those was asked, or after 20 s.
        scorer: what has the log-probabilities of token ids, and spells a token; None: it gives none.
        dies_after: pieces of work after which it stops listening and cuts what is under way; None: never.
        form: in which form they may be asked for, `echo` or `prompt_logprobs`; the other is ignored, as servers do.
        streams: whether it answers piece by piece where that is asked; False: whole, as servers do that ignore it.
        escapes: whether JSON that streams is ASCII; False: as UTF-8.
        breaks_after: pieces after which a stream is cut, once; None: never.
    """

    faults: dict[str, float] = field(default_factory=dict)
    seed: int = 0
    delay: float = 0.002
    retry_after: str = "0.02"
    per_second: float | None = None
    key: str | None = None
    always: tuple[int, str, dict[str, str]] | None = None
    answers: dict[str, Any] = field(default_factory=dict)
    hold: dict[str, str] = field(default_factory=dict)
    scorer: Scorer | None = None
    dies_after: int | None = None
    form: str = "echo"
    streams: bool = True
    breaks_after: int | None = None
    escapes: bool = True


class Scorer(Protocol):
    """A model that a server has."""

    def seen(self, ids: list[int]) -> list[int]:
        """The ids that it reads of those that were sent."""
        ...

    def log_probs(self, ids: list[int]) -> list[float]:
        """Log-probability of each token but the first, given those before it."""
        ...

    def spell(self, token: int) -> str:
        """A token as a text."""
        ...


class FakeEndpoint:
    """The server, in the running event loop."""

    def __init__(self, script: Script, log: Path | None = None) -> None:
        self.script, self.log = script, log
        self.requests: list[dict[str, Any]] = []
        self.worked: list[str] = []
        self.events: list[tuple[str, str]] = []
        self.in_flight = self.most_in_flight = 0
        self._rng = random.Random(script.seed)
        self._times: list[float] = []
        self.files: dict[str, str] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self, port: int = 0) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port, limit=2**22)
        return int(self._server.sockets[0].getsockname()[1])

    def die(self) -> None:
        """Listen no more, and cut what is under way."""
        if self._server is not None:
            self._server.close()
        for writer in self._open:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = {k.lower(): v.strip() for k, v in (line.split(":", 1) for line in head[1:] if ":" in line)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                self.in_flight += 1
                self.most_in_flight = max(self.most_in_flight, self.in_flight)
                try:
                    if not await self._reply(head[0], headers, body, writer):
                        return
                finally:
                    self.in_flight -= 1
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()

    async def _reply(self, line: str, headers: dict[str, str], body: bytes, writer: asyncio.StreamWriter) -> bool:
        script = self.script
        if not line.startswith("POST /v1/") or line.startswith(("POST /v1/files", "POST /v1/batches")):
            return await self._batches(line, headers, body, writer)
        self.requests.append({"line": line, "headers": headers, "body": json.loads(body or b"{}")})
        if script.key is not None and headers.get("authorization") != f"Bearer {script.key}":
            return await _send(
                writer, 401, {"error": {"message": f"Incorrect API key: {headers.get('authorization')}"}}
            )
        if script.always is not None:
            status, text, more = script.always
            return await _send(writer, status, text, more)
        if script.per_second is not None:
            now = time.monotonic()
            self._times = [t for t in self._times if now - t < 1.0]
            if len(self._times) >= script.per_second:
                wait = max(0.001, 1.0 - (now - self._times[0]))
                return await _send(
                    writer, 429, {"error": {"message": "rate"}}, {"retry-after-ms": str(int(wait * 1000) + 1)}
                )
            self._times.append(now)
        drawn, at = self._rng.random(), 0.0
        fault = next((kind for kind, share in script.faults.items() if (at := at + share) > drawn), "")
        if fault == "429":
            return await _send(writer, 429, {"error": {"message": "slow down"}}, {"retry-after": script.retry_after})
        if fault == "500":
            return await _send(writer, 500, {"error": {"message": "internal"}})
        if fault == "reset":
            writer.transport.abort()
            return False
        await asyncio.sleep(script.delay * (10 if fault == "slow" else 1))
        asked = json.loads(body)
        prompt = asked["messages"][-1]["content"] if "messages" in asked else str(asked["prompt"])
        self.events.append(("asked", prompt))
        for words, others in script.hold.items():
            until = time.monotonic() + 20.0
            while words in prompt and not self._asked(others) and time.monotonic() < until:
                await asyncio.sleep(0.005)
        if script.dies_after is not None and len(self.worked) >= script.dies_after:
            self.die()
            return False
        self.worked.append(prompt)
        self.events.append(("answered", prompt))
        if self.log is not None:
            with self.log.open("a") as file:
                file.write(json.dumps(prompt) + "\n")
        if fault == "cut":
            writer.write(
                b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 5000\r\n\r\n{"id": "x", '
            )
            await writer.drain()
            writer.transport.abort()
            return False
        if fault == "half":
            return await _send(writer, 200, '{"id": "x", "choices": [{"mess')
        if fault == "html":
            return await _send(writer, 200, "<html><body>Bad gateway</body></html>", {"content-type": "text/html"})
        if fault == "inside":
            return await _send(writer, 200, {"error": {"message": "upstream is busy", "code": 503}})
        how = next((how for word, how in script.answers.items() if word in prompt), "")
        status, reply = _answer(prompt, how(prompt) if callable(how) else how, asked)
        if status == 200 and script.scorer is not None and isinstance(asked.get("prompt"), list):
            _score(script.scorer, script.form, asked, reply)
        if status == 200 and asked.get("stream") and script.streams:
            return await _stream(writer, reply, script)
        return await _send(writer, status, reply)

    def _asked(self, words: str) -> bool:
        return any(words in prompt for _, prompt in self.events)

    async def _batches(self, line: str, headers: dict[str, str], body: bytes, writer: asyncio.StreamWriter) -> bool:
        """Files and batches, as OpenAI has them; `work_batches` does their work."""
        verb, path = line.split()[:2]
        parts = path.split("?")[0].removeprefix("/v1/").split("/")
        if verb == "POST" and parts == ["files"]:
            mark = headers["content-type"].split("boundary=")[1].encode()
            content = next(p for p in body.split(b"--" + mark) if b'name="file"' in p)
            name = f"file-{len(self.files)}"
            self.files[name] = content.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n").decode()
            return await _send(writer, 200, {"id": name, "object": "file", "purpose": "batch"})
        if verb == "GET" and parts[0] == "files":
            return await _send(writer, 200, self.files[parts[1]], {"content-type": "text/plain"})
        if verb == "POST":
            asked = json.loads(body)
            name = f"batch-{len(self.batches)}"
            self.batches[name] = {"id": name, "object": "batch", "status": "in_progress", "output_file_id": None,
                                  "error_file_id": None, **asked}  # fmt: skip
            return await _send(writer, 200, self.batches[name])
        if len(parts) == 1:
            return await _send(writer, 200, {"object": "list", "data": list(self.batches.values()), "has_more": False})
        return await _send(writer, 200, self.batches[parts[1]])

    def work_batches(self, status: str = "completed") -> None:
        """End the batches that are in progress; a row whose prompt says so fails, is refused, or is never looked at."""
        for batch in self.batches.values():
            if batch["status"] != "in_progress":
                continue
            good, bad = [], []
            for row in map(json.loads, self.files[batch["input_file_id"]].splitlines()):
                prompt = row["body"]["messages"][-1]["content"]
                how = next((how for word, how in self.script.answers.items() if word in prompt), "")
                if how == "unseen":
                    continue
                self.worked.append(prompt)
                code, reply = (
                    _answer(prompt, how, row["body"]) if how != "fails" else (500, {"error": {"message": "no"}})
                )
                line = {"custom_id": row["custom_id"], "response": {"status_code": code, "body": reply}, "error": None}
                (good if code == 200 else bad).append(json.dumps(line))
            for kind, lines in (("output", good), ("error", bad)):
                if lines:
                    # torn and foreign lines come too
                    self.files[f"{kind}-{batch['id']}"] = "\n".join([*lines, '{"custom_id": "x"}', '{"custom'])
                    batch[f"{kind}_file_id"] = f"{kind}-{batch['id']}"
            batch["status"] = status


def _answer(prompt: str, how: str, asked: dict[str, Any]) -> tuple[int, Any]:
    if how == "overlong":
        return 400, {"error": {"message": "This model's maximum context length is 10 tokens."}}
    if how == "blocked":
        return 400, {"error": {"message": "The response was filtered due to the content management policy."}}
    if how == "odd":
        return 400, {"error": {"message": "this prompt is malformed"}}
    message: dict[str, Any] = {"role": "assistant", "content": f"answer to {prompt}"}
    reason = {"filter": "content_filter", "truncate": "length"}.get(how, "stop")
    if how.startswith("say:"):
        message["content"] = how.removeprefix("say:")
    if how == "refuse":
        message |= {"content": None, "refusal": "I cannot help with that."}
    if how in ("empty", "filter"):
        message["content"] = ""
    if how == "think":
        message["reasoning_content"] = "let me see"
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 20,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 5 if how == "think" else 0},
    }
    choice = {"index": 0, "finish_reason": reason}
    choice |= {"message": message} if "messages" in asked else {"text": message["content"]}
    return 200, {"id": f"req-{abs(hash(prompt)) % 10**8}", "choices": [choice], "usage": usage}


def _score(scorer: Scorer, form: str, asked: dict[str, Any], reply: dict[str, Any]) -> None:
    """Log-probabilities of the prompt's tokens as OpenAI's legacy completions (`echo`) or vLLM give them."""
    ids, choice = scorer.seen(asked["prompt"]), reply["choices"][0]
    numbers, words = [None, *scorer.log_probs(ids)], [scorer.spell(i) for i in ids]
    reply["usage"] = {"prompt_tokens": len(ids), "completion_tokens": 1}
    if asked.get("return_token_ids"):
        choice["prompt_token_ids"] = ids
    if form == "echo" and asked.get("echo") and asked.get("logprobs") is not None:
        # the one that was written comes last
        choice["logprobs"] = {"tokens": [*words, " x"], "token_logprobs": [*numbers, -0.5]}
        choice["text"] = "".join(words) + " x"
    if form == "prompt_logprobs" and asked.get("prompt_logprobs") is not None:
        choice["prompt_logprobs"] = [
            None if n is None else {"7": {"logprob": -0.1, "rank": 1}, str(i): {"logprob": n, "decoded_token": w}}
            for i, n, w in zip(ids, numbers, words, strict=True)
        ]


async def _stream(writer: asyncio.StreamWriter, reply: dict[str, Any], script: Script) -> bool:
    """The same reply, word by word, with a comment before it and its tokens at the end."""
    choice = reply["choices"][0]
    message = choice.get("message") or {"text": choice.get("text")}
    pieces: list[dict[str, Any]] = []
    for name in ("reasoning_content", "refusal", "content", "text"):
        for n, word in enumerate(str(message[name]).split(" ") if message.get(name) else ()):
            said = word if n == 0 else " " + word
            pieces.append({"text": said} if name == "text" else {"delta": {name: said}})
    pieces.append({"delta": {}, "finish_reason": choice["finish_reason"]})
    writer.write(b"HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n: soon\n\n")
    for n, piece in enumerate(pieces):
        if script.breaks_after == n:
            script.breaks_after = None
            writer.transport.abort()
            return False
        event = {"id": reply["id"], "choices": [{"index": 0, "finish_reason": None, **piece}]}
        writer.write(f"data: {json.dumps(event, ensure_ascii=script.escapes)}\n\n".encode())
        await writer.drain()
        await asyncio.sleep(script.delay)
    if (script_usage := reply.get("usage")) is not None:
        writer.write(f"data: {json.dumps({'id': reply['id'], 'choices': [], 'usage': script_usage})}\n\n".encode())
    writer.write(b"data: [DONE]\n\n")
    await writer.drain()
    return False


async def _send(writer: asyncio.StreamWriter, status: int, body: Any, headers: dict[str, str] | None = None) -> bool:
    data = (body if isinstance(body, str) else json.dumps(body)).encode()
    lines = {"content-type": "application/json", "content-length": str(len(data)), **(headers or {})}
    head = f"HTTP/1.1 {status} X\r\n" + "".join(f"{k}: {v}\r\n" for k, v in lines.items())
    writer.write(head.encode() + b"\r\n" + data)
    await writer.drain()
    return True


class Servers:
    """An event loop in a thread, and the servers in it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def serve(self, **script: Any) -> tuple[FakeEndpoint, str]:
        """Start a server that goes wrong as it is told; gives it, and its address."""
        endpoint = FakeEndpoint(Script(**script))
        port = asyncio.run_coroutine_threadsafe(endpoint.start(), self._loop).result()
        return endpoint, f"http://127.0.0.1:{port}/v1"

    def stop(self) -> None:
        async def ended() -> None:
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            await asyncio.sleep(0.05)

        asyncio.run_coroutine_threadsafe(ended(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _main() -> None:
    port, log, script = int(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
    endpoint = FakeEndpoint(Script(**script), log)
    print(await endpoint.start(port), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main())
