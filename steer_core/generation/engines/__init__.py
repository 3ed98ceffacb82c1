"""Engines: what runs plans, one module an engine (group `engines` of `steer_core.extensions`).

A module has

* `build(model)`: the backend of a `ModelSpec`, loaded and ready (`steer_core.generation.backend.Backend`);
* `describe(model)`: its `Capabilities`, told before anything is loaded: what a cell cannot do is said then;
* optionally `REMOTE = True`: it holds no device of this machine, so nobody waits for one.

`ModelSpec.engine` names the one that a model is run by.
"""

from __future__ import annotations

from typing import Any

from schemas.specs import ModelSpec
from steer_core import extensions
from steer_core.generation.backend import Backend, Capabilities


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
    return bool(getattr(_module(model), "REMOTE", False))


def _module(model: ModelSpec) -> Any:
    return extensions.load("engines", model.engine, what="engine")
