"""Low-rank adapters as recipes ask for them, up to the rank at which each layer learns as a whole.

At `rank: full` a layer's A is the identity, which stays, and B starts at 0 and learns, at scale 1: W + B A = W + B. The
gradient of B is that of W, so B takes the steps that W would take: full fine-tuning of the linear layers, kept as an
adapter that rows can wear. Embeddings, norms and biases stay as they are.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from schemas.adapter_part import LoraSpec
from steer_core.tables.errors import ConfigError


def lora_config(lora: LoraSpec, model: Any) -> Any:
    """PEFT's settings of an adapter.

    Args:
        lora: what is asked for.
        model: what it is put on; at `rank: full` its layers say how wide they are.

    Raises:
        ConfigError: at `rank: full`, the model has no linear layer.
    """
    from peft import LoraConfig

    modules: str | Sequence[str] = lora.modules if lora.modules == "all-linear" else list(lora.modules)
    if lora.rank == "full":
        widths = _widths(model)
        rank = max(widths.values())
        alpha, pattern = float(rank), {name: width for name, width in widths.items() if width != rank}
    else:
        rank, alpha, pattern = lora.rank, lora.alpha, {}
    return LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type]  # PEFT takes any number
        rank_pattern=pattern,
        alpha_pattern=dict(pattern),
        use_rslora=lora.rank_stabilized,
        target_modules=modules,  # type: ignore[arg-type]
        lora_dropout=0.0,
        task_type="CAUSAL_LM",
    )


def settle(model: Any, lora: LoraSpec) -> None:
    """Make a model that wears the adapter ready to learn: at `rank: full` every A is the identity, and stays it.

    Called before an optimiser is made, for whoever loads an adapter lets all of it learn.
    """
    import torch
    from peft.tuners.lora import LoraLayer

    if lora.rank != "full":
        return
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, LoraLayer):
                for weight in (a.weight for a in layer.lora_A.values()):
                    assert isinstance(weight, torch.Tensor)  # PEFT's dictionary of modules says less
                    torch.nn.init.eye_(weight)
                    weight.requires_grad_(False)


def _widths(model: Any) -> dict[str, int]:
    """Inputs of the linear layers, by the last part of their names, or by all of it where that is not one width.

    Raises:
        ConfigError: there is none.
    """
    from torch.nn import Linear
    from transformers.pytorch_utils import Conv1D

    found: dict[str, int] = {}
    for name, module in model.named_modules():
        if isinstance(module, Linear):
            found[name] = module.in_features
        elif isinstance(module, Conv1D):
            found[name] = int(module.weight.shape[0])
    if not found:
        raise ConfigError(f"{type(model).__name__} has no linear layer to learn as a whole")
    kinds = Counter({(name.rpartition(".")[2], width) for name, width in found.items()})
    ends = Counter(end for end, _ in kinds)
    short = {end: width for end, width in kinds if ends[end] == 1}
    long = {re.escape(n): w for n, w in found.items() if n.rpartition(".")[2] not in short}
    return short | long
