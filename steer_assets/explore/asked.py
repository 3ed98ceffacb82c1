"""What the explorer's server takes, as JSON, from its own pages and nobody else's: texts to try, rulings, answers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from schemas.specs import MethodSpec
from steer_assets.explore import submitted
from steer_assets.explore.ruling import Review
from steer_assets.explore.streaming import LINES, streamed
from steer_assets.explore.submitted import Submissions
from steer_assets.explore.trying import Answer, Playground
from steer_core.explorer.pages import Pages
from steer_core.explorer.views.play import answer
from steer_core.tables.errors import ConfigError, SteerworksError

#: Bytes of a request.
LARGEST = 200_000
_NOTHING = type(None)
_SURROGATE = re.compile("[\ud800-\udfff]")
#: View and what is asked -> the fields that it takes.
FIELDS: dict[tuple[str, str], dict[str, tuple[type, ...]]] = {
    ("play", "rewrite"): {"text": (str,), "deltas": (dict,), "cell": (str,)},
    ("play", "steer"): {"text": (str,), "cell": (str,), "concept": (str,), "strength": (int, float, _NOTHING)},
    ("submit", "score"): {"name": (str,)},
    ("submit", "send"): {"name": (str,), "card": (dict,), "ends": (str,), "content": (str,)},
    ("review", "rule"): {
        "cell": (str,),
        "request_id": (str,),
        "response_id": (str,),
        "stays": (bool, _NOTHING),
        "by": (str,),
        "note": (str,),
    },
}


@dataclass(frozen=True)
class Takers:
    """Who takes what is sent to a bench.

    Attributes:
        play: texts.
        review: rulings.
        submit: answers made elsewhere; None: the bench takes none.
        methods: name -> method, of which others are made.
    """

    play: Playground
    review: Review
    submit: Submissions | None = None
    methods: Mapping[str, MethodSpec] = field(default_factory=dict)


def is_ours(request: Request) -> bool:
    """Whether a page of this server sends it: no other page of the web can send JSON here unasked."""
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site", "same-origin")
    own = f"{request.url.scheme}://{request.headers.get('host')}"
    plain = request.headers.get("content-type", "").split(";")[0].strip() == "application/json"
    return plain and site == "same-origin" and origin in (None, own)


async def taken(request: Request, pages: Pages, takers: Takers) -> Response:
    """What came of it: a piece of a page, or words; an error is its words."""
    view, what = request.path_params["view"], request.path_params["what"]
    if (view, what) not in FIELDS or getattr(takers, view) is None:
        return PlainTextResponse(f"{view}/{what} is nothing that can be asked", status_code=404)
    most = submitted.LARGEST if view == "submit" else LARGEST
    body = await _body(request, most)
    if body is None:
        return PlainTextResponse(f"a request takes {most:,} bytes", status_code=413)
    ask = getattr(getattr(takers, view), what)

    def said(asked: Callable[[], Any]) -> Response:
        try:
            found = asked()
        except ConfigError as error:
            return PlainTextResponse(str(error), status_code=400)
        except SteerworksError as error:
            return PlainTextResponse(str(error), status_code=409)
        if isinstance(found, Answer):
            return HTMLResponse(answer(pages, found.row, found.starts, found.ends))
        return PlainTextResponse(str(found))

    try:
        given = await run_in_threadpool(_read, body, FIELDS[view, what])
    except ConfigError as error:
        return PlainTextResponse(str(error), status_code=400)
    if view == "play" and request.headers.get("accept") == LINES:
        return streamed(lambda drafts: ask(**given, drafts=drafts), said)
    return await run_in_threadpool(said, lambda: ask(**given))


async def _body(request: Request, most: int) -> bytes | None:
    """The request's bytes; None of one that is too large, of which no more is read."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > most:
            return None
    return bytes(body)


def _read(body: bytes, fields: dict[str, tuple[type, ...]]) -> dict[str, Any]:
    try:
        given = json.loads(body)
    except ValueError as error:
        raise ConfigError(f"the request is no JSON: {error}") from error
    if not isinstance(given, dict) or set(given) != set(fields):
        raise ConfigError(f"a request has the fields {', '.join(fields)}")
    if _SURROGATE.search(json.dumps(given, ensure_ascii=False)):
        raise ConfigError("the text holds half a character (a lone surrogate): it is no Unicode text")
    for name, kinds in fields.items():
        # a truth value is an integer to Python, and to nobody else
        if not isinstance(given[name], kinds) or (isinstance(given[name], bool) and bool not in kinds):
            raise ConfigError(f"{name!r} is {given[name]!r}, which is of the wrong type")
    deltas = given.get("deltas") or {}
    if odd := [g for g, d in deltas.items() if isinstance(d, bool) or not isinstance(d, int | float)]:
        raise ConfigError(f"goal {odd[0]!r}: a move is a number")
    return given
