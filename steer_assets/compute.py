"""Where an asset runs: marks for what calls a model, the executor of the gpu location, and the loaded weights."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Iterator
from typing import Any

import dagster as dg

from schemas.specs import ModelSpec
from steer_assets.devices import DEVICES, device_lease, device_of
from steer_assets.on_ray.preflight import parse_wants
from steer_core.generation.backend import Backend
from steer_core.generation.engines import is_remote, load_engine
from steer_core.tables.errors import ConfigError

__all__ = ["backend_for", "device_lease", "device_of", "gpu_executor", "gpu_marks", "gpu_tags", "let_go"]


def gpu_tags() -> dict[str, str]:
    """Tags that mark an asset as wanting an accelerator, for the UI and for whatever schedules by tags."""
    return {"steerworks/compute": "gpu"}


def gpu_marks() -> dict[str, Any]:
    """The same for executors, as op tags: each reads its own."""
    wants = parse_wants(os.environ.get("STEERWORKS_RAY_WORKER", "GPU=1"))
    own = {name: amount for name, amount in wants.items() if name not in ("CPU", "GPU")}
    asked = {"num_cpus": wants.get("CPU", 0), "num_gpus": wants.get("GPU", 0)} | ({"resources": own} if own else {})
    container = {"resources": {"limits": {"nvidia.com/gpu": 1}}}
    return gpu_tags() | {
        "dagster-ray/config": asked,
        "dagster-k8s/config": {"container_config": container},
    }


def gpu_executor() -> dg.ExecutorDefinition:
    """Executor of the gpu location, by `STEERWORKS_GPU_EXECUTOR`.

    `local` runs a whole cell in the run's own process: weights are loaded once, and memory is given back when it ends.
    `ray` makes each step a job of the cluster at `RAY_ADDRESS`.

    Raises:
        ConfigError: another name.
    """
    name = os.environ.get("STEERWORKS_GPU_EXECUTOR", "local")
    if name == "ray":
        from steer_assets.on_ray.executor import ray_executor

        return ray_executor()
    if name != "local":
        raise ConfigError(f"STEERWORKS_GPU_EXECUTOR={name!r}: expected `local` or `ray`")
    return dg.in_process_executor


#: Backends that nobody has let go of, by their model as JSON; the one that has the device stands last.
_HELD: dict[str, Backend] = {}
#: What stands beside them: endpoints, which hold no device, and judges on a device of their own.
_BESIDE: dict[str, Backend] = {}


def backend_for(model: ModelSpec, *, beside: bool = False) -> Backend:
    """The backend of a model, on the device that this process holds; it stays until `let_go`.

    One model has the device at a time, also where its weights are a server's. A backend that can rest (`rest`) does so
    while another has it, and is the same one when the run comes back to it; any other is dropped.

    Args:
        model: the model.
        beside: leave what is loaded where it is, for this one has a device of its own; so has every endpoint.
    """
    held = next((d for d in DEVICES.held if d.startswith("cuda:")), None)
    if held is not None and device_of(model) == "cuda":
        model = model.model_copy(update={"device": held})
    key = model.model_dump_json()
    if key in _BESIDE or beside or is_remote(model):
        if key not in _BESIDE:
            _BESIDE[key] = load_engine(model)
        return _BESIDE[key]
    _make_room(key)
    _HELD[key] = _HELD.pop(key) if key in _HELD else _load(model)
    return _HELD[key]


def _load(model: ModelSpec) -> Backend:
    from transformers.utils import logging

    logging.disable_progress_bar()  # the run's log tells the progress
    return load_engine(model)


def _make_room(wanted: str) -> None:
    """Let all backends but one rest, or drop them."""
    dropped = False
    for key in [k for k in _HELD if k != wanted]:
        if not getattr(_HELD[key], "rest", lambda: False)():
            _close(_HELD, key)
            dropped = True
    if dropped:
        _free()


def _close(held: dict[str, Backend], key: str) -> None:
    """Forget a backend, and end what it has started that outlives it: a server."""
    getattr(held.pop(key), "close", lambda: None)()


@contextlib.contextmanager
def training_on(model: ModelSpec) -> Iterator[None]:
    """Hold a model's device for a trainer, with no weights of ours on it: the trainer loads its own.

    Several processes that train together hold a GPU each.
    """
    device = device_of(model)
    several = model.training_processes > 1 and device == "cuda"
    if several:
        # what lies on the device that this process has kept goes before it is freed
        drop_weights()
    with DEVICES.lease_several(device, model.training_processes) if several else device_lease(device):
        drop_weights()
        try:
            yield
        finally:
            _free()


@contextlib.contextmanager
def beside_training(model: ModelSpec) -> Iterator[Backend]:
    """The backend of a model that is asked for a trainer, before that loads its own: nothing of it is left behind."""
    with device_lease(device_of(model)):
        try:
            yield backend_for(model)
        finally:
            drop_weights()


#: Set in a process that runs one cell after the other.
_holding_on: list[bool] = []


def hold_on() -> None:
    """Keep weights beyond the cell from now on: the next one may be of the same model. The device is freed as ever."""
    _holding_on.append(True)


def let_go() -> None:
    """Drop the loaded weights, then free the device: whoever waits for it finds its memory empty.

    A process that holds on to its weights was given its share of the device by who started it.
    """
    if not _holding_on:
        drop_weights()
    DEVICES.let_go()


def drop_weights() -> None:
    """Drop the loaded weights, and keep the device."""
    if _HELD or _BESIDE:
        for held in (_HELD, _BESIDE):
            for key in list(held):
                _close(held, key)
        _free()


def _free() -> None:
    gc.collect()
    if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
