"""The tokenizer of a model that answers elsewhere: it counts prompts, and spells what is to be scored."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from schemas.specs import ModelSpec
from steer_core.generation.prompt_tokens import encode_answer, encode_plan
from steer_core.models.loading import load_tokenizer
from steer_core.steering.plan import Plan
from steer_core.tables.errors import SteerworksError


class OwnTokens:
    """The tokenizer that the endpoint's settings name, or that of the model's own files; read when it is first used.

    Args:
        model: a model with an endpoint.
    """

    def __init__(self, model: ModelSpec) -> None:
        self._model = model

    @classmethod
    def of(cls, model: ModelSpec) -> OwnTokens | None:
        """None where nothing says which tokenizer it has."""
        named = model.endpoint.tokenizer if model.endpoint is not None else None
        return None if named is None and model.kind == "served" else cls(model)

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer.

        Raises:
            ConfigError: there is none, or its files are damaged.
        """
        model = self._model
        named = model.endpoint.tokenizer if model.endpoint is not None else None
        revision = model.revision if named is None else None
        return load_tokenizer(ModelSpec(name=model.name, source=named or model.source, revision=revision))

    def encode(self, plan: Plan) -> list[int]:
        """Token ids of a plan's prompt, as the endpoint's own template would have them."""
        model = self._model
        chat = model.chat if model.chat is not None else bool(self.tokenizer.chat_template)
        body = model.endpoint.body if model.endpoint is not None else {}
        said = body.get("chat_template_kwargs", model.template_options)
        options = said if isinstance(said, dict) else model.template_options
        return encode_plan(plan, self.tokenizer, chat, options)

    def count(self, plan: Plan) -> int:
        """Tokens of a plan's prompt."""
        return len(self.encode(plan))

    def spell(self, continuation: str | Sequence[int]) -> list[int]:
        """Token ids of a continuation, spelt by itself: its tokens never depend on the prompt's last word.

        Raises:
            SteerworksError: it has no tokens.
        """
        found = encode_answer(continuation, self.tokenizer)
        if not found:
            raise SteerworksError(f"the continuation {continuation!r} has no tokens: nothing to score")
        return found
