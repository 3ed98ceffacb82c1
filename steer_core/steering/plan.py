"""A plan: one call to a model as JSON, so that it can be stored, diffed, hashed and sent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from schemas.digest import canonical_json, digest_text
from schemas.specs import Decoding
from steer_core.steering.intervention import Intervention


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


def messages_of(data: str) -> tuple[Message, ...]:
    """The turns of a conversation, from its JSON: a list of objects with `role` and `content`."""
    return tuple(Message(m["role"], m["content"]) for m in json.loads(data))


@dataclass(frozen=True)
class Extension:
    """Something done to a call that this package does not know: a decoding rule, a trained intervention.

    Attributes:
        name: an extension of the group `decoding`, which the engine must state among its capabilities.
        settings: what it is told, as JSON.
        tensors: name -> digest of a tensor that was handed to the engine.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; what is empty is left out."""
        body: dict[str, Any] = {"name": self.name}
        if self.settings:
            body["settings"] = dict(self.settings)
        if self.tensors:
            body["tensors"] = dict(self.tensors)
        return body


@dataclass(frozen=True)
class Plan:
    """One call: which model, what it reads, how the answer is drawn.

    How the call is realised (device, batch, engine) is no part of a plan. Exactly one of `messages`, `text` and
    `tokens` is given: a conversation for the chat template, a bare prompt, or token ids.

    Attributes:
        model: `ModelSpec.identity`.
        decoding: how the answer is drawn.
        messages: conversation, ending with the user's turn.
        text: bare prompt, tokenised as it stands.
        tokens: token ids, used as they stand.
        interventions: what is done to activations, in order; empty: unsteered.
        adapter: digest of the adapter that the model wears; None: none.
        extensions: what else is done to the call, in order.

    Raises:
        ValueError: none or several of the three are given.
    """

    model: str
    decoding: Decoding
    messages: tuple[Message, ...] | None = None
    text: str | None = None
    tokens: tuple[int, ...] | None = None
    interventions: tuple[Intervention, ...] = ()
    adapter: str | None = None
    extensions: tuple[Extension, ...] = ()

    def __post_init__(self) -> None:
        given = [n for n in ("messages", "text", "tokens") if getattr(self, n) is not None]
        if len(given) != 1:
            raise ValueError(f"a plan needs exactly one of messages, text and tokens; got {given or 'none'}")

    def to_json(self) -> str:
        """Canonical JSON; fields that are not given are left out, so that a new field changes no old id."""
        body: dict[str, Any] = {"model": self.model, "decoding": self.decoding.model_dump(mode="json")}
        if self.messages is not None:
            body["messages"] = [{"role": m.role, "content": m.content} for m in self.messages]
        if self.text is not None:
            body["text"] = self.text
        if self.tokens is not None:
            body["tokens"] = list(self.tokens)
        if self.interventions:
            body["interventions"] = [i.to_dict() for i in self.interventions]
        if self.adapter is not None:
            body["adapter"] = self.adapter
        if self.extensions:
            body["extensions"] = [e.to_dict() for e in self.extensions]
        return canonical_json(body)

    @classmethod
    def from_json(cls, data: str) -> Plan:
        """The plan that `to_json` wrote."""
        body = json.loads(data)
        messages = body.get("messages")
        tokens = body.get("tokens")
        return cls(
            model=body["model"],
            decoding=Decoding.model_validate(body["decoding"]),
            messages=None if messages is None else tuple(Message(m["role"], m["content"]) for m in messages),
            text=body.get("text"),
            tokens=None if tokens is None else tuple(tokens),
            interventions=tuple(Intervention.from_dict(i) for i in body.get("interventions", [])),
            adapter=body.get("adapter"),
            extensions=tuple(Extension(**e) for e in body.get("extensions", [])),
        )

    @property
    def id(self) -> str:
        """Content hash of the plan."""
        return digest_text(self.to_json())
