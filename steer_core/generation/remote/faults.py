"""What an attempt that brought no answer means: wait and ask again, ask again, never ask again, or stop the run."""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from steer_core.generation.remote.ledger import Reply
from steer_core.tables.errors import SteerworksError

#: Seconds that an endpoint may ask to wait; beyond it a run stops rather than sleeps.
LONGEST_WAIT = 900.0
#: `wait`: it is too much at once; `again`: a retry may help; `final`: the row has its (failed) answer; `stop`: nothing
#: that this run sends will be answered.
Remedy = Literal["wait", "again", "final", "stop"]
_OVERLONG = re.compile(
    r"context[ _](length|window)|maximum context|too many tokens|prompt is too long|max_model_len", re.I
)
_FILTERED = re.compile(r"content[ _]?(filter|policy|management)|safety|moderation", re.I)
_QUOTA = re.compile(r"insufficient_quota|billing|credit balance|exceeded your current quota", re.I)
_SECRET = re.compile(r"(sk-|Bearer\s+)[A-Za-z0-9_\-.*]{4,}")


@dataclass(frozen=True)
class Fault:
    """An attempt that brought no answer.

    Attributes:
        reply: what is kept of it.
        remedy: what to do.
        wait: seconds that the endpoint asks to wait; None: it does not say.
        advice: for a person, where the run stops.
    """

    reply: Reply
    remedy: Remedy
    wait: float | None = None
    advice: str = ""


class EndpointError(SteerworksError):
    """The endpoint will answer nothing that this run asks; what was answered is kept."""


def without_secrets(text: str, key: str | None) -> str:
    """A text as it may be kept and shown: without the key, and without what looks like one."""
    if key:
        text = text.replace(key, "[key]")
    return _SECRET.sub("[key]", text)


def fault_of_status(status: int, body: Any, headers: Mapping[str, str], key: str | None = None) -> Fault:
    """What an HTTP error means.

    Args:
        status: of the reply.
        body: of the reply, as JSON or text.
        headers: of the reply.
        key: the endpoint's key, to be struck out of what it says.
    """
    said = without_secrets(_said(body), key)[:500]
    wait = wait_of(headers)
    named = f"HTTP {status}: {said}" if said else f"HTTP {status}"

    def fault(outcome: Any, remedy: Remedy, advice: str = "") -> Fault:
        return Fault(Reply(outcome, status=status, detail=named), remedy, wait, advice)

    if status == 429 and _QUOTA.search(said):
        return fault("rejected", "stop", "the account has no money left: top it up, and run again")
    if status == 429 or (status == 503 and wait is not None):
        return fault("waiting", "wait")
    if status in (401, 403):
        return fault("rejected", "stop", "look at the key: the variable that `endpoint.key` names, and what it may do")
    if status == 404:
        return fault("rejected", "stop", "look at `endpoint.base_url` (up to /v1) and the model's name")
    if status in (400, 413, 422):
        if _OVERLONG.search(said):
            return fault("overlong", "final")
        if _FILTERED.search(said):
            return fault("filtered", "final")
        return fault(
            "rejected",
            "stop",
            "the endpoint does not take such requests: set `endpoint.leave_out` or `endpoint.body`, or another dialect",
        )
    if status == 402:
        return fault("rejected", "stop", "the account has no money left: top it up, and run again")
    if status == 408 or status == 409 or status >= 500:
        return fault("failed", "again")
    return fault("rejected", "stop", "the endpoint answers with an error that a retry cannot help")


def _said(body: Any) -> str:
    """The words of an error, wherever the body has them."""
    found = body
    for _ in range(3):
        if isinstance(found, Mapping):
            found = next((found[k] for k in ("error", "message", "detail") if found.get(k)), None) or str(dict(found))
        elif isinstance(found, list) and found:
            found = found[0]
    text = " ".join(str(found or "").split())
    if text.lstrip().startswith("<"):
        return "a web page, no JSON: " + re.sub(r"<[^>]*>", " ", text)[:120].strip()
    return text


def wait_of(headers: Mapping[str, str]) -> float | None:
    """Seconds that a reply asks to wait (`Retry-After`, RFC 9110 section 10.2.3); None where it does not say."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        value = headers.get(name)
        if not value:
            continue
        try:
            seconds = float(value) * unit
        except ValueError:
            try:
                seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
            except (TypeError, ValueError):
                continue
        # NaN and the like are nothing that can be waited for
        if seconds == seconds:
            return max(0.0, seconds)
    return None
