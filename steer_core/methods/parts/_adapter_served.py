"""Adapters that a running server has already: taken by name, and on trust."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import polars as pl

from schemas.adapters import Adapters
from schemas.digest import canonical_json
from schemas.specs import ModelSpec
from steer_core.generation.adapters import Adapter
from steer_core.generation.backend import Backend
from steer_core.tables.errors import ConfigError

#: What stands in the place of a folder where a server has the adapter.
SERVED = "served://"


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


def served_row(label: str, adapter: Adapter, base: str) -> pl.DataFrame:
    """The row of `adapters` of one that a server has.

    Args:
        label: of the part.
        adapter: as the server lists it.
        base: fingerprint of the model that wears it.
    """
    said = {"served": adapter.served, "root": str(adapter.folder), "base": adapter.base}
    row = {
        "part": label,
        "step": 0,
        "label": adapter.served,
        "adapter": adapter.digest,
        "folder": f"{SERVED}{adapter.served}",
        "base": base,
        "recipe": canonical_json(said),
        "recipe_hash": "",
        "data_hash": "",
    }
    return pl.DataFrame([row | dict.fromkeys(("rank", "parameters", "norm"))], schema=Adapters.empty().schema)


def not_served(name: str, model: ModelSpec) -> Iterator[str]:
    """Why a model's engine has no adapters of its own, as far as its settings say."""
    if model.engine == "openai":
        yield (
            f"adapter {name!r} is `served`, and {model.name} answers at an endpoint, where an adapter is a model: "
            f"make it one, with `source: served:{name}`"
        )
    elif model.engine in ("transformers", "vllm") and (model.vllm is None or model.vllm.address is None):
        yield f"adapter {name!r} is `served`, and {model.name} has no server that runs already: give it `vllm.address`"
