"""Engines: what runs plans, one module an engine (group `engines` of `steer_core.extensions`).

A module has

* `build(model)`: the backend of a `ModelSpec`, loaded and ready (`steer_core.generation.backend.Backend`);
* `describe(model)`: its `Capabilities`, told before anything is loaded: what a cell cannot do is said then;
* optionally `REMOTE = True`, or `remote(model)`: it holds no device of this machine, so nobody waits for one;
* optionally `counter(model)`: counts the tokens of a plan's prompt without loading weights;
* optionally `price(model, prompt_tokens, new_tokens, calls)`: the `Money` that so much costs at most, or None;
* optionally `attempts(model, response_ids)`: rows of `attempts`, where each of them was sent over a network;
* optionally `lacking(model)`: what a run needs and is not there (a key, a package, an environment), in words;
* optionally `address(model)`: where somebody must listen when it runs, if the configuration says so itself, or None;
  or `addresses(model)`: several, at one of which somebody must.

`ModelSpec.engine` names the one that a model is run by.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import polars as pl

from schemas.responses import Attempts
from schemas.specs import ModelSpec
from steer_core import extensions
from steer_core.generation.backend import Backend, Capabilities
from steer_core.generation.remote.reach import nobody_at
from steer_core.steering.plan import Plan


@dataclass(frozen=True)
class Money:
    """What something costs.

    Attributes:
        amount: how much.
        currency: of what.
        as_of: the day that its prices were read.
    """

    amount: float
    currency: str
    as_of: datetime.date


def load_engine(model: ModelSpec) -> Backend:
    """The backend of a model.

    Raises:
        ConfigError: no such engine, or the model cannot be loaded.
    """
    backend: Backend = _module(model).build(model)
    return backend


def describe_engine(model: ModelSpec) -> Capabilities:
    """What the engine of a model can carry out, without loading it.

    Raises:
        ConfigError: no such engine.
    """
    found: Capabilities = _module(model).describe(model)
    return found


def is_remote(model: ModelSpec) -> bool:
    """Whether the engine of a model holds no device of this machine."""
    module = _module(model)
    return bool(module.remote(model) if hasattr(module, "remote") else getattr(module, "REMOTE", False))


def token_counter(model: ModelSpec) -> Callable[[Plan], int]:
    """Counts the tokens of a plan's prompt: by the engine, or by the model's tokenizer alone.

    Raises:
        ConfigError: there is no tokenizer.
    """
    if (own := getattr(_module(model), "counter", None)) is not None:
        found: Callable[[Plan], int] = own(model)
        return found
    from steer_core.generation.prompt_tokens import encode_plan
    from steer_core.models.info import describe_model
    from steer_core.models.loading import load_tokenizer

    tokenizer, chat = load_tokenizer(model), describe_model(model).chat
    uses_template = bool(tokenizer.chat_template) if chat is None else chat
    return lambda plan: len(encode_plan(plan, tokenizer, uses_template, model.template_options))


def cost_at_most(model: ModelSpec, prompt_tokens: int, new_tokens: int, calls: int) -> Money | None:
    """Money that so much costs at most; None where the engine costs none, or nobody knows."""
    own = getattr(_module(model), "price", None)
    found: Money | None = None if own is None else own(model, prompt_tokens, new_tokens, calls)
    return found


def keeps_attempts(model: ModelSpec) -> bool:
    """Whether the engine of a model sends requests, each of which is a row."""
    return hasattr(_module(model), "attempts")


def attempts_of(model: ModelSpec, response_ids: Iterable[str]) -> pl.DataFrame:
    """Rows of `attempts` for those responses; none of an engine that sends no requests."""
    own = getattr(_module(model), "attempts", None)
    found: pl.DataFrame = Attempts.empty() if own is None else own(model, response_ids)
    return found


def lacks(model: ModelSpec) -> list[str]:
    """What running a model needs and this machine or environment has not, each with what to do; sends nothing."""
    own = getattr(_module(model), "lacking", None)
    return [] if own is None else list(own(model))


def out_of_reach(model: ModelSpec) -> str | None:
    """Why no address that a model's configuration names can be connected to; None where one can, or it names none."""
    module = _module(model)
    if hasattr(module, "addresses"):
        named: list[str] = module.addresses(model)
    else:
        own = module.address(model) if hasattr(module, "address") else None
        named = [] if own is None else [own]
    why: list[str] = []
    for address in named:
        if (said := nobody_at(address)) is None:
            return None
        why.append(f"{address} ({said})")
    return f"nobody answers at {' or '.join(why)}: start the server, or mend the address" if why else None


def _module(model: ModelSpec) -> Any:
    return extensions.load("engines", model.engine, what="engine")
