"""How vLLM is called, with its server and without: command lines and environment, as plain data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from steer_core.generation.servers.room import PACKAGE, WORKER, VllmEnvironment, package_digest


@dataclass(frozen=True)
class ServeOptions:
    """What is served, and how.

    Attributes:
        model: hub id or folder.
        name: what requests call it; empty: `model`.
        revision: commit or tag of a hub model.
        dtype: of parameters and activations.
        max_context: tokens of prompt and answer; None: the model's.
        rows: most requests in a pass.
        pass_tokens: most tokens in a pass; longer prompts are read in chunks. None: vLLM's default.
        cache_bytes: room for keys and values. None: 1 GiB on a CPU (vLLM would take nearly all memory there), and what
            vLLM takes on a GPU.
        eager: no compilation. A GPU is refused without it where requests are steered.
        prefix_caching: whether prompts that begin alike share work.
        adapters: name -> folder of LoRA adapters that requests may name as their model.
        adapter_slots: adapters that one pass may mix; at least those given. More can be loaded while it runs.
        adapter_rank: largest rank of an adapter.
        steered: whether requests may carry interventions.
        sleeps: whether it can be put to sleep; only on a GPU.
        seed: of sampling without a seed of its own.
        more: further arguments of `vllm serve`; without the server, of its engine.
    """

    model: str
    name: str = ""
    revision: str | None = None
    dtype: str = "float32"
    max_context: int | None = None
    rows: int = 64
    pass_tokens: int | None = None
    cache_bytes: int | None = None
    eager: bool = True
    prefix_caching: bool = True
    adapters: Mapping[str, str] = field(default_factory=dict)
    adapter_slots: int = 0
    adapter_rank: int = 16
    steered: bool = True
    sleeps: bool = False
    seed: int = 0
    more: tuple[str, ...] = ()

    @property
    def served_name(self) -> str:
        """What requests call the model."""
        return self.name or self.model


def command_line(vllm: VllmEnvironment, options: ServeOptions, host: str, port: int) -> list[str]:
    """The words that start a server."""
    words = [str(vllm.python), "-m", "vllm.entrypoints.cli.main", "serve", options.model]
    words += ["--host", host, "--port", str(port)]
    if options.adapters:
        words += ["--lora-modules", *(f"{name}={folder}" for name, folder in options.adapters.items())]
    return [*words, *engine_words(vllm, options)]


def offline_command(vllm: VllmEnvironment, options: ServeOptions) -> list[str]:
    """The words that start an engine without a server (`vllm_worker.offline`)."""
    return [str(vllm.python), "-m", f"{PACKAGE}.offline", "--model", options.model, *engine_words(vllm, options)]


def engine_words(vllm: VllmEnvironment, options: ServeOptions) -> list[str]:
    """The words that are said to the engine, whoever it is behind."""
    words = ["--served-model-name", options.served_name]
    # what a model's own file says of sampling is no part of a plan
    words += ["--generation-config", "vllm"]
    words += ["--dtype", options.dtype, "--seed", str(options.seed), "--max-num-seqs", str(options.rows)]
    cache = options.cache_bytes or (2**30 if vllm.cpu else None)
    for flag, value in (
        ("--revision", options.revision),
        ("--max-model-len", options.max_context),
        ("--max-num-batched-tokens", options.pass_tokens),
        ("--kv-cache-memory-bytes", cache),
    ):
        if value is not None:
            words += [flag, str(value)]
    words.append("--enable-prefix-caching" if options.prefix_caching else "--no-enable-prefix-caching")
    if options.eager:
        words.append("--enforce-eager")
    if slots := max(options.adapter_slots, len(options.adapters)):
        # vLLM PR 48421: on a CPU requests without an adapter wear the last slot, so that one stays empty
        words += ["--enable-lora", "--max-loras", str(slots + 1), "--max-lora-rank", str(options.adapter_rank)]
    if options.sleeps:
        words.append("--enable-sleep-mode")
    if options.steered:
        # the second keeps what is compiled with this worker apart from what is compiled without
        words += ["--worker-cls", WORKER, "--additional-config", json.dumps({"steerworks": package_digest()})]
    return [*words, *options.more]


def process_environment(room: Mapping[str, str], base: Mapping[str, str]) -> dict[str, str]:
    """Environment variables of the process.

    Args:
        room: what `make_room` gave.
        base: what it inherits.
    """
    found = {**base, **room}
    if base.get("PYTHONPATH"):
        found["PYTHONPATH"] = f"{room['PYTHONPATH']}:{base['PYTHONPATH']}"
    # vectors come, and receipts go, by `collective_rpc`, which only the development mode has: bind to this machine
    found["VLLM_SERVER_DEV_MODE"] = "1"
    found["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "1"
    found.setdefault("VLLM_NO_USAGE_STATS", "1")
    found["PYTHONUNBUFFERED"] = "1"
    return found
