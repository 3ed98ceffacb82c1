"""A vLLM of a model, as the model's settings say; and whether there is memory for a second one."""

from __future__ import annotations

from pathlib import Path

from schemas.endpoints import VllmServer
from schemas.specs import ModelSpec
from steer_core.generation.servers.command import ServeOptions
from steer_core.generation.servers.offline import OfflineEngine
from steer_core.generation.servers.running import Running
from steer_core.generation.servers.server import Server
from steer_core.models.loading import ready_folder

#: Where Linux says how much memory there is.
MEMORY = Path("/proc/meminfo")


def start(model: ModelSpec, max_context: int | None, python: Path) -> Running:
    """Start the vLLM of a model, with a server or without.

    Args:
        model: the model; `vllm` has its settings.
        max_context: tokens of prompt and answer; None: the model's.
        python: interpreter of the environment that has vLLM.

    Raises:
        ConfigError: no such environment, no vLLM in it, or one that cannot do what the settings want.
        ServerError: it did not start; says why, what to do, and shows the end of its log.
    """
    folder, said = ready_folder(model), model.vllm or VllmServer()
    options = ServeOptions(
        str(folder or model.source),
        name=model.name,
        revision=None if folder else model.revision,
        dtype=model.dtype,
        max_context=max_context,
        rows=said.rows,
        pass_tokens=said.pass_tokens,
        cache_bytes=None if said.cache_gib is None else int(said.cache_gib * 2**30),
        eager=said.eager,
        prefix_caching=said.prefix_caching,
        adapter_slots=said.adapter_slots,
        adapter_rank=said.adapter_rank,
        sleeps=said.sleeps,
        more=said.more,
    )
    if said.mode == "offline":
        return OfflineEngine.start(python, options, timeout=said.start_timeout)
    return Server.start(python, options, port=said.port, timeout=said.start_timeout)


def memory_to_spare() -> bool:
    """Whether half of this machine's memory is available, as Linux says; False where nothing says so."""
    try:
        lines = MEMORY.read_text(encoding="ascii").splitlines()
    except OSError:
        return False
    kib = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    return 2 * kib["MemAvailable"] >= kib["MemTotal"]
