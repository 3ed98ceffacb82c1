"""Where an asset runs: marks for what calls a model, the executor of the gpu location, and the loaded weights."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import sys
from collections.abc import Iterator

import dagster as dg

from schemas.specs import ModelSpec
from steer_assets.devices import DEVICES, device_lease, device_of
from steer_core.generation.backend import Backend
from steer_core.generation.engines import is_remote, load_engine
from steer_core.tables.errors import ConfigError

__all__ = ["backend_for", "device_lease", "device_of", "gpu_executor", "gpu_tags", "let_go"]


def gpu_tags() -> dict[str, str]:
    """Tags that mark an asset as wanting an accelerator, for the UI and for whatever schedules by tags."""
    return {"steerworks/compute": "gpu"}


def gpu_executor() -> dg.ExecutorDefinition:
    """Executor of the gpu location, by `STEERWORKS_GPU_EXECUTOR`.

    `local` runs a whole cell in the run's own process: weights are loaded once, and memory is given back when it ends.

    Raises:
        ConfigError: another name.
    """
    name = os.environ.get("STEERWORKS_GPU_EXECUTOR", "local")
    if name != "local":
        raise ConfigError(f"STEERWORKS_GPU_EXECUTOR={name!r}: expected `local`")
    return dg.in_process_executor


#: What `_backend` has made and nobody has let go of.
_HELD: list[Backend] = []
#: What stands beside it: endpoints, which hold no device, and judges on a device of their own.
_BESIDE: dict[str, Backend] = {}


def backend_for(model: ModelSpec, *, beside: bool = False) -> Backend:
    """The backend of a model, on the device that this process holds; weights stay loaded until `let_go`.

    Args:
        model: the model.
        beside: leave what is loaded where it is, for this one has a device of its own; so has every endpoint.
    """
    held = next((d for d in DEVICES.held if d.startswith("cuda:")), None)
    if held is not None and device_of(model) == "cuda":
        model = model.model_copy(update={"device": held})
    key = model.model_dump_json()
    if key not in _BESIDE and not beside and not is_remote(model):
        return _backend(key)
    if key not in _BESIDE:
        _BESIDE[key] = load_engine(model)
    return _BESIDE[key]


@functools.lru_cache(maxsize=1)
def _backend(model_json: str) -> Backend:
    from transformers.utils import logging

    logging.disable_progress_bar()  # the run's log tells the progress

    # one model at a time, also where its weights are a server's
    _close()
    backend = load_engine(ModelSpec.model_validate_json(model_json))
    _HELD.append(backend)
    return backend


@contextlib.contextmanager
def training_on(model: ModelSpec) -> Iterator[None]:
    """Hold a model's device for a trainer, with no weights of ours on it: the trainer loads its own."""
    with device_lease(device_of(model)):
        drop_weights()
        try:
            yield
        finally:
            _free()


def _close() -> None:
    """End what backends have started that outlives them: servers."""
    while _HELD:
        getattr(_HELD.pop(), "close", lambda: None)()


def let_go() -> None:
    """Drop the loaded weights, then free the device: whoever waits for it finds its memory empty."""
    drop_weights()
    DEVICES.let_go()


def drop_weights() -> None:
    """Drop the loaded weights, and keep the device."""
    if _backend.cache_info().currsize or _BESIDE:
        _close()
        _backend.cache_clear()
        while _BESIDE:
            getattr(_BESIDE.popitem()[1], "close", lambda: None)()
        _free()


def _free() -> None:
    gc.collect()
    if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
