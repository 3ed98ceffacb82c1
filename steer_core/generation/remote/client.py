"""One attempt over the network, through the official client."""

from __future__ import annotations

import contextlib
import functools
import sys
import time
from typing import Any

from steer_core.generation.backend import Draft
from steer_core.generation.remote.faults import Fault, without_secrets
from steer_core.generation.remote.ledger import Reply
from steer_core.generation.remote.pace import wait_said
from steer_core.generation.remote.request import Request, Wire, timed
from steer_core.generation.remote.streamed import STREAM, Gathered
from steer_core.tables.errors import ConfigError

#: Said where the extra is not installed.
NO_CLIENT = "the engine `openai` needs its client: pip install 'steerworks[api]'"


def open_client(wire: Wire) -> Any:
    """The official asynchronous client, without its own retries: each attempt is ours to count.

    Raises:
        ConfigError: the package or the key is missing.
    """
    try:
        import openai
    except ImportError as error:
        raise ConfigError(NO_CLIENT) from error
    return openai.AsyncOpenAI(
        # an endpoint without a key still gets a header from the client
        api_key=wire.key() or "none",
        base_url=wire.address,
        timeout=wire.endpoint.timeout,
        max_retries=0,
        default_headers=wire.headers() | ({"api-key": wire.key() or ""} if wire.endpoint.dialect == "azure" else {}),
        default_query=dict(wire.endpoint.query),
        http_client=openai.DefaultAsyncHttpxClient(verify=_certificates()),
    )


@functools.cache
def _certificates() -> Any:
    """Who is trusted: read once, since it takes 50 ms, and a judge is asked in many small batches."""
    import httpx

    return httpx.create_ssl_context()


async def attempt(client: Any, wire: Wire, request: Request) -> tuple[Reply | Fault, float]:
    """Send a request once.

    Returns:
        What came of it, and for how many seconds the endpoint's headers say that it takes nothing.
    """
    import openai

    began = time.monotonic()
    wait = 0.0
    try:
        body = request.body if request.draft is None else {**request.body, **STREAM}
        raw = await client.post(
            request.path,
            body=body,
            cast_to=object,
            options={"headers": _RAW},
            stream=request.draft is not None,
            stream_cls=openai.AsyncStream[object],
        )
        response = raw.http_response
        wait = wait_said(response.headers)
        text = response.text if request.draft is None else await _gathered(response, request.draft, wire)
        found: Reply | Fault = wire.read(response.status_code, text, response.headers, reader=request.reader)
    except _BrokenOffError as error:
        found = _unheard(error, "cut", _cause(error), wire)
    except openai.APIStatusError as error:
        found = wire.read(error.status_code, error.response.text, error.response.headers)
    except openai.APITimeoutError as error:
        found = _unheard(error, "timeout", f"no reply within {wire.endpoint.timeout:g} s", wire)
    except openai.APIConnectionError as error:
        found = _unheard(error, "cut", _cause(error), wire)
    except UnicodeError as error:
        found = Fault(Reply("garbage", detail=f"a reply that is no text: {error}"), "again")
    return timed(found, time.monotonic() - began), wait


class _BrokenOffError(Exception):
    """A reply that came piece by piece came to no end; its cause says why."""


async def _gathered(response: Any, draft: Draft, wire: Wire) -> str:
    """The body of a reply, told while it comes; one that comes whole although it was to stream is no fault."""
    # the client brings its own package for the network, whose name is nobody's promise
    network = sys.modules[type(response).__module__.partition(".")[0]]
    try:
        if not response.headers.get("content-type", "").startswith("text/event-stream"):
            return str((await response.aread()).decode(errors="replace"))
        gathered = Gathered(draft, wire.particulars.thinking)
        rest = b""
        async with contextlib.aclosing(response.aiter_bytes()) as pieces:
            async for piece in pieces:
                # at line feeds alone: whatever else a text calls the end of a line may stand in what a model wrote
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    gathered.take(line.decode())
        gathered.take(rest.decode())
        return gathered.body()
    except (network.HTTPError, ValueError, EOFError) as error:
        raise _BrokenOffError from error
    finally:
        await response.aclose()


#: Makes the client hand over the reply as it came: its headers are wanted, and its body is read by `Wire`.
_RAW = {"X-Stainless-Raw-Response": "true"}


def _unheard(error: BaseException, outcome: Any, said: str, wire: Wire) -> Fault:
    """An attempt without a reply: what was never sent costs nothing; of the rest nobody knows, so it counts as paid."""
    said = without_secrets(said, wire.key() if wire.endpoint.key else None)
    sent = not isinstance(error.__cause__, OSError) and type(error.__cause__).__name__ not in _NEVER_SENT
    return Fault(Reply(outcome, detail=said, cost=None if sent else 0.0), "again", advice="" if sent else UNREACHABLE)


_NEVER_SENT = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol", "InvalidURL"})
#: Advice where no connection could be made.
UNREACHABLE = "nothing answers there: look at `endpoint.base_url`, and whether the server runs"


def _cause(error: BaseException) -> str:
    cause = error.__cause__ or error
    return f"{type(cause).__name__}: {' '.join(str(cause).split()) or 'the connection was cut'}"[:200]
