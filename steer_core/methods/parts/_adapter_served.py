"""Adapters that a running server has already: taken by name, and on trust."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import polars as pl

from schemas.adapters import Adapters
from schemas.digest import canonical_json
from schemas.specs import ModelSpec
from steer_core.adapters.states import step_of
from steer_core.generation.adapters import Adapter
from steer_core.generation.backend import Backend
from steer_core.tables.errors import ConfigError

#: What stands in the place of a folder where a server has the adapter.
SERVED = "served://"
#: The name that means all of them.
ALL = "*"


def on_server(backend: Backend, name: str) -> Adapter:
    """An adapter that an engine's server has already.

    Raises:
        ConfigError: the engine knows of no such server.
        SteerworksError: the server lists no such adapter, or one of another model.
    """
    ask = getattr(backend, "served_adapter", None)
    if ask is None:
        raise ConfigError(
            f"adapter {name!r} is `served`, and {backend.capabilities.name} has no server that lists adapters: use "
            "engine `vllm` with an `address`"
        )
    return cast(Adapter, ask(name))


def all_on_server(backend: Backend) -> list[Adapter]:
    """All adapters that an engine's server has already, by name.

    Raises:
        ConfigError: the engine knows of no such server.
        SteerworksError: the server lists none, or one of another model.
    """
    ask = getattr(backend, "served_adapters", None)
    if ask is None:
        raise ConfigError(
            f'adapters are `served: "*"`, and {backend.capabilities.name} has no server that lists adapters: use '
            "engine `vllm` with an `address`"
        )
    return cast(list[Adapter], ask())


def served_rows(label: str, served: str, backend: Backend, base: str) -> pl.DataFrame:
    """Rows of `adapters` of what a server has: one adapter, or all of them.

    Args:
        label: of the part.
        served: the name, or `*`.
        backend: asks the server.
        base: fingerprint of the model that wears them.

    Raises:
        ConfigError, SteerworksError: as `on_server` and `all_on_server`.
    """
    adapters = all_on_server(backend) if served == ALL else [on_server(backend, served)]
    rows = [
        {
            "part": label,
            "step": step,
            "label": adapter.served,
            "adapter": adapter.digest,
            "folder": f"{SERVED}{adapter.served}",
            "base": base,
            "recipe": canonical_json({"served": adapter.served, "root": str(adapter.folder), "base": adapter.base}),
            "recipe_hash": "",
            "data_hash": "",
            **dict.fromkeys(("rank", "parameters", "norm")),
        }
        for step, adapter in zip(_steps([str(a.served) for a in adapters]), adapters, strict=True)
    ]
    return pl.DataFrame(rows, schema=Adapters.empty().schema)


def _steps(names: Sequence[str]) -> list[int]:
    """The steps that names say, or where they say none, or one twice, their places from 1; one alone is at 0."""
    said = [step_of(n) for n in names]
    if len(names) > 1 and not say_steps(names):
        return list(range(1, len(names) + 1))
    return [s or 0 for s in said]


def say_steps(names: Sequence[str]) -> bool:
    """Whether names are those of checkpoints of one run: each says a step of its own."""
    said = [step_of(n) for n in names]
    return None not in said and len(set(said)) == len(said)


def not_served(name: str, model: ModelSpec) -> Iterator[str]:
    """Why a model's engine has no adapters of its own, as far as its settings say."""
    if model.engine == "openai":
        yield (
            f"adapter {name!r} is `served`, and {model.name} answers at an endpoint, where an adapter is a model: "
            f"make {'each' if name == ALL else 'it'} one, with `source: served:{'NAME' if name == ALL else name}`"
        )
    elif model.engine in ("transformers", "vllm") and (model.vllm is None or model.vllm.address is None):
        yield f"adapter {name!r} is `served`, and {model.name} has no server that runs already: give it `vllm.address`"
