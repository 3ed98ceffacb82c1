"""Texts to token ids and back, for the harness: by the tokenizer of whatever engine answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from schemas.digest import digest_text
from steer_core.evaluation.profiles.harness.needs import HarnessRefusalError
from steer_core.generation.backend import Backend
from steer_core.generation.prompt_tokens import encode_open, render
from steer_core.steering.plan import Message, Role
from steer_core.tables.errors import SteerworksError


@dataclass(frozen=True)
class Speech:
    """A tokenizer and how conversations are written for its model.

    Attributes:
        tokenizer: a `transformers` tokenizer.
        options: arguments of its chat template.
        model: the model's identity.
    """

    tokenizer: Any
    options: Mapping[str, Any]
    model: str

    @property
    def end(self) -> int:
        """The token that ends texts.

        Raises:
            SteerworksError: there is none.
        """
        if self.tokenizer.eos_token_id is None:
            raise SteerworksError("the tokenizer has no token that ends a text, which the harness needs")
        return int(self.tokenizer.eos_token_id)

    @property
    def begin(self) -> int:
        """The token that begins texts, or else the one that ends them."""
        begins = self.tokenizer.bos_token_id
        return self.end if begins is None else int(begins)

    @property
    def name(self) -> str:
        """The model and its template, as part of a file's name."""
        return f"{self.model}-{digest_text(str(self.tokenizer.chat_template))[:8]}".replace("/", "__")

    def spell(self, texts: Iterable[str], special: bool | None) -> dict[str, list[int]]:
        """Token ids of texts, each once.

        Args:
            texts: any number.
            special: whether special tokens are added; None: those that begin a text, unless it begins with them.
        """
        begins = str(self.tokenizer.decode([self.begin]))
        found: dict[str, list[int]] = {}
        groups: dict[bool | None, list[str]] = {}
        for text in dict.fromkeys(texts):
            kind = False if special is None and begins and text.startswith(begins) else special
            groups.setdefault(kind, []).append(text)
        for kind, group in groups.items():
            if kind is None:
                found |= zip(group, encode_open(group, self.tokenizer), strict=True)
            else:
                ids = self.tokenizer(group, add_special_tokens=kind)["input_ids"]
                found |= zip(group, map(list, ids), strict=True)
        return found

    def rendered(self, turns: Sequence[Mapping[str, str]], answer_begins: bool) -> str:
        """A conversation as the chat template has it.

        Args:
            turns: with `role` and `content`.
            answer_begins: whether the model's turn is opened; if not, the last turn stays open.

        Raises:
            HarnessRefusalError: the model has no chat template.
        """
        if not self.tokenizer.chat_template:
            raise HarnessRefusalError("the model has no chat template: run the task without `apply_chat_template`")
        messages = tuple(Message(cast(Role, t["role"]), t["content"]) for t in turns)
        return render(messages, self.tokenizer, self.options, open_turn=not answer_begins)


def speech_of(backend: Backend, tokenizer: Any = None, options: Mapping[str, Any] | None = None) -> Speech:
    """The tokenizer of an engine's model.

    Args:
        backend: the engine.
        tokenizer: the model's own, where the engine has none.
        options: arguments of the chat template; None: the model's own.

    Raises:
        SteerworksError: there is none.
    """
    own = tokenizer
    if own is None:
        own = getattr(backend, "tokenizer", None) or getattr(getattr(backend, "tokens", None), "tokenizer", None)
    loaded = getattr(backend, "loaded", None)
    if own is None and loaded is not None:
        own = loaded.tokenizer
    if own is None:
        raise SteerworksError(
            f"{backend.capabilities.name} backend has no tokenizer of its model, and the harness needs one: name it in "
            "`endpoint.tokenizer`, or give `EngineLM(tokenizer=...)`"
        )
    spec = loaded.spec if loaded is not None else getattr(backend, "spec", None)
    said = options if options is not None else getattr(spec, "template_options", {})
    return Speech(own, dict(said), backend.model_identity)
