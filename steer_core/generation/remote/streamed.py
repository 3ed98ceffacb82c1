"""A reply that comes piece by piece (`text/event-stream`), gathered to the reply that would have come whole."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from steer_core.generation.backend import Draft

#: Added to a request so that its reply comes piece by piece, and says its tokens at the end.
STREAM = {"stream": True, "stream_options": {"include_usage": True}}


class Gathered:
    """Pieces of one reply of OpenAI's protocol.

    Args:
        draft: told the answer so far.
        thinking: fields of a message that hold what was thought apart from the answer.
    """

    def __init__(self, draft: Draft, thinking: Sequence[str]) -> None:
        self._draft, self._fields = draft, ("content", "refusal", *thinking)
        self._message: dict[str, str] = {}
        self._text = ""
        self._whole: dict[str, Any] = {}
        self._finish: str | None = None
        self._error: dict[str, Any] | None = None

    def take(self, line: str) -> None:
        """A line of the stream; comments and other fields than `data` say nothing.

        Raises:
            ValueError: it is no JSON, or no event of this protocol.
        """
        name, _, said = line.partition(":")
        if name != "data" or said.strip() == "[DONE]":
            return
        event = json.loads(said)
        if not isinstance(event, dict):
            raise ValueError(f"an event that is no object: {said.strip()[:80]}")
        if event.get("error"):
            self._error = event
            return
        self._whole |= {k: event[k] for k in ("id", "usage") if event.get(k)}
        for choice in event.get("choices") or ():
            if isinstance(choice, dict) and choice.get("index", 0) == 0:
                self._finish = choice.get("finish_reason") or self._finish
                self._add(choice)

    def _add(self, choice: dict[str, Any]) -> None:
        delta, before = choice.get("delta") or {}, self._so_far
        for field in self._fields:
            if delta.get(field):
                self._message[field] = self._message.get(field, "") + _text(delta[field])
        self._text += _text(choice.get("text"))
        if self._so_far != before or not before:
            # of one that still thinks there is no text, and whoever listens may want no more of it
            self._draft(self._so_far)

    @property
    def _so_far(self) -> str:
        return self._message.get("content", "") or self._text

    def body(self) -> str:
        """The reply as JSON, as it would have come whole; an error where the stream broke off with one.

        Raises:
            EOFError: it broke off without a word.
        """
        if self._error is not None:
            return json.dumps(self._error)
        if self._finish is None:
            raise EOFError("the stream ended before the answer did")
        choice: dict[str, Any] = {"index": 0, "finish_reason": self._finish, "text": self._text}
        if self._message or not self._text:
            choice["message"] = {"content": "", **self._message}
        return json.dumps({**self._whole, "choices": [choice]})


def _text(said: Any) -> str:
    """A piece of text, which may come as a list of parts.

    Raises:
        ValueError: it is neither.
    """
    if said is None or isinstance(said, str):
        return said or ""
    if isinstance(said, list) and all(isinstance(part, dict) for part in said):
        return "".join(str(part.get("text") or "") for part in said)
    raise ValueError(f"a piece that is no text: {str(said)[:80]}")
