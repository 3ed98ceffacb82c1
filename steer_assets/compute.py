"""Where an asset runs: marks for GPU assets, the executor of the gpu location, and the lease on a device."""

from __future__ import annotations

import contextlib
import functools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import filelock

from schemas.specs import ModelSpec
from steer_core.generation.backend import Backend
from steer_core.tables.errors import ConfigError


def gpu_tags() -> dict[str, object]:
    """Tags that mark an asset as wanting an accelerator, for the UI and for whatever schedules by tags."""
    return {"steerworks/compute": "gpu"}


def gpu_executor() -> dg.ExecutorDefinition:
    """Executor of the gpu location, by `STEERWORKS_GPU_EXECUTOR`.

    `local` runs one step at a time in a process of its own, so that memory is given back after each.

    Raises:
        ConfigError: another name.
    """
    name = os.environ.get("STEERWORKS_GPU_EXECUTOR", "local")
    if name != "local":
        raise ConfigError(f"STEERWORKS_GPU_EXECUTOR={name!r}: expected `local`")
    return dg.multiprocess_executor.configured({"max_concurrent": 1})


@contextlib.contextmanager
def device_lease(device: str) -> Iterator[None]:
    """Hold a device of this machine: a second run waits, and the kernel frees the lease of a killed one.

    An OS file lock rather than a Dagster pool: a pool slot of a run that was killed outright stays taken until
    somebody frees it by hand.
    """
    device = "cuda:0" if device == "cuda" else device
    lock = Path(tempfile.gettempdir()) / f"steerworks-{device.replace(':', '-')}.lock"
    with filelock.FileLock(lock, mode=0o666):
        yield


def backend_for(model: ModelSpec) -> Backend:
    """The backend of a model; weights stay loaded for the next cell of the same model in this process."""
    return _backend(model.model_dump_json())


@functools.lru_cache(maxsize=1)
def _backend(model_json: str) -> Backend:
    from transformers.utils import logging

    from steer_core.generation.transformers_backend import TransformersBackend
    from steer_core.models.loading import load_model

    logging.disable_progress_bar()  # the run's log tells the progress

    return TransformersBackend(load_model(ModelSpec.model_validate_json(model_json)))


def device_of(model: ModelSpec) -> str:
    """The device that a model will be on."""
    if model.device != "auto":
        return model.device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
