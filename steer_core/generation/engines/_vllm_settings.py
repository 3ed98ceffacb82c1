"""What is known of a model's vLLM from settings and files alone, before it is started or asked."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from schemas.endpoints import VllmServer
from schemas.specs import ModelSpec
from steer_core.generation.backend import Capabilities, Interventions
from steer_core.generation.servers.proof import worker_interventions
from steer_core.generation.servers.room import find_vllm
from steer_core.models.info import describe_model, model_folder
from steer_core.tables.errors import ConfigError

#: Interpreter of the environment that has vLLM, where a model does not name one.
PYTHON = "STEERWORKS_VLLM"


def interpreter(settings: VllmServer) -> Path:
    """The interpreter of the environment that has vLLM: the setting's, `STEERWORKS_VLLM`, or `.venv-vllm` here."""
    named = settings.python or os.environ.get(PYTHON)
    return Path(named).expanduser() if named else Path(".venv-vllm") / "bin" / "python"


def device_is_gpu(model: ModelSpec) -> bool:
    """Whether a model is on a GPU of this machine."""
    import torch

    return torch.cuda.is_available() if model.device == "auto" else model.device.startswith("cuda")


def remote(model: ModelSpec) -> bool:
    """Whether the server is somebody else's, so that nobody waits for a device."""
    return model.vllm is not None and model.vllm.address is not None


def lacking(model: ModelSpec) -> Iterator[str]:
    """The environment that has vLLM, where the server is started from here."""
    settings = model.vllm or VllmServer()
    if settings.address is None:
        try:
            find_vllm(interpreter(settings))
        except ConfigError as error:
            yield str(error)


def address(model: ModelSpec) -> str | None:
    """The address of the server that its settings name; None where one is started."""
    return None if model.vllm is None else model.vllm.address


def describe(model: ModelSpec) -> Capabilities:
    """What the engine can carry out, from the model's config: which sites the worker knows depends on its family."""
    settings = model.vllm or VllmServer()
    return Capabilities(
        "vllm",
        describe_model(model).max_context,
        scores=True,
        interventions=_interventions(model),
        diverges=False,
        adapters=settings.adapter_slots > 0,
        streams=True,
        batching="remote",
    )


def _interventions(model: ModelSpec) -> Interventions:
    folder = model_folder(model)
    file = None if folder is None else folder / "config.json"
    if file is None or not file.is_file():
        # nothing says of which family a hub model is, or a file that is not converted yet: the server will
        return replace(worker_interventions("llama"), sites=("residual",))
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"model {model.name!r}: {file} is no JSON: {error}") from error
    return worker_interventions(str(config.get("model_type")))
