"""A plan: one call to a model as JSON, so that it can be stored, diffed, hashed and sent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from schemas.digest import canonical_json, digest_text
from schemas.specs import Decoding
from steer_core.steering.intervention import Intervention
from steer_core.tables.damage import reading

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


def messages_of(data: str) -> tuple[Message, ...]:
    """The turns of a conversation, from its JSON: a list of objects with `role` and `content`.

    Raises:
        SteerworksError: it is something else.
    """
    with reading("messages"):
        return _messages(json.loads(data))


def _messages(turns: Any) -> tuple[Message, ...]:
    if not isinstance(turns, list) or not turns:
        raise ValueError("messages are a list of turns, one at least")
    for turn in turns:
        if turn["role"] not in get_args(Role) or not isinstance(turn["content"], str):
            raise ValueError(f"a turn has a role ({', '.join(get_args(Role))}) and a text as its content; got {turn}")
    return tuple(Message(turn["role"], turn["content"]) for turn in turns)


def _tokens(ids: Any) -> tuple[int, ...]:
    if not isinstance(ids, list) or not all(type(i) is int and i >= 0 for i in ids):
        raise ValueError(f"tokens are whole numbers from 0 on; got {str(ids)[:60]}")
    return tuple(ids)


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
        """The plan that `to_json` wrote.

        Raises:
            SteerworksError: it is something else; says what.
        """
        with reading("plan"):
            body = json.loads(data)
            if not isinstance(body, dict) or (unknown := sorted(set(body) - {f.name for f in fields(cls)})):
                raise ValueError(f"it knows no {unknown[0]!r}" if isinstance(body, dict) else "it is no JSON object")
            return cls(
                model=body["model"],
                decoding=Decoding.model_validate(body["decoding"]),
                messages=None if body.get("messages") is None else _messages(body["messages"]),
                text=body.get("text"),
                tokens=None if body.get("tokens") is None else _tokens(body["tokens"]),
                interventions=tuple(Intervention.from_dict(i) for i in body.get("interventions", [])),
                adapter=body.get("adapter"),
                extensions=tuple(Extension(**e) for e in body.get("extensions", [])),
            )

    @property
    def id(self) -> str:
        """Content hash of the plan."""
        return digest_text(self.to_json())
