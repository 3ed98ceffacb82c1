"""Adapters as others load them: a PEFT folder, one that vLLM reads the same way, or a checkpoint with the update in it.

* `peft`: what `peft` and transformers load. The settings name the base where it has a name elsewhere, and no path.
* `vllm`: the same, for `vllm serve --enable-lora`. vLLM takes one rank and scale for all layers and passes over
  `rank_pattern` and `alpha_pattern` in silence, so that these are written into the weights: the update is the same.
* `merged`: base and adapter in one checkpoint, with the tokenizer's files; nothing of PEFT is needed to load it.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.specs import ModelSpec
from steer_core.generation.adapters import CONFIG, WEIGHTS, Adapter
from steer_core.tables.errors import ConfigError
from steer_core.tables.folders import new_folder

if TYPE_CHECKING:
    from torch import Tensor

FORMS = ("peft", "merged", "vllm")
CARD = "README.md"
#: Ranks that vLLM has room for (`max_lora_rank`).
VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        folder: where it lies.
        form: one of `FORMS`.
        difference: of a merged checkpoint: how far its logits are from those of the adapter as it is worn
            (`merging.write_merged`); else None.
    """

    folder: Path
    form: str
    difference: float | None = None


def export_adapter(adapter: Adapter, base: ModelSpec, folder: str | Path, *, form: str = "peft", card: str) -> Exported:
    """Write an adapter to a new folder, in one move.

    Args:
        adapter: the adapter.
        base: the model that wears it.
        folder: where it goes; must not exist, or be empty.
        form: one of `FORMS`.
        card: text of the model card.

    Raises:
        ConfigError: no such form, or vLLM has no place for it.
        SteerworksError: the folder is in use or cannot be written, or the checkpoint does not do what the adapter does.
    """
    if form not in FORMS:
        raise ConfigError(f"there is no form {form!r} to export an adapter in; there are {', '.join(FORMS)}")
    target, difference = Path(folder).expanduser(), None
    with new_folder(target, "the adapter") as aside:
        if form == "merged":
            from steer_core.adapters.merging import write_merged

            difference = write_merged(base, adapter, aside)
        else:
            _write_peft(adapter, base, aside, for_vllm=form == "vllm")
        (aside / CARD).write_text(card, encoding="utf-8")
    return Exported(target, form, difference)


def settings_of(adapter: Adapter) -> dict[str, Any]:
    """PEFT settings of an adapter."""
    settings: dict[str, Any] = json.loads((adapter.folder / CONFIG).read_text(encoding="utf-8"))
    return settings


def vllm_rank(settings: Mapping[str, Any]) -> int | None:
    """The least `max_lora_rank` of vLLM that has room for an adapter; None where none has."""
    rank = max([int(settings["r"]), *(settings.get("rank_pattern") or {}).values()])
    return next((r for r in VLLM_RANKS if r >= rank), None)


def no_place_in_vllm(settings: Mapping[str, Any], names: Iterable[str]) -> str | None:
    """Why vLLM cannot serve an adapter, in words; None where it can.

    Args:
        settings: PEFT settings.
        names: of its weights.
    """
    if odd := sorted(k for k in names if not k.endswith((".lora_A.weight", ".lora_B.weight"))):
        return f"has weights that vLLM has no place for ({odd[0]})"
    if vllm_rank(settings) is None:
        return f"has a rank above {VLLM_RANKS[-1]}, which vLLM has no room for"
    return None


def weight_names(adapter: Adapter) -> tuple[str, ...]:
    """Names of an adapter's weights."""
    from safetensors import safe_open

    with safe_open(str(adapter.folder / WEIGHTS), framework="numpy") as file:
        return tuple(file.keys())


def base_name(spec: ModelSpec) -> str | None:
    """What a base model is called everywhere; None for one in a folder of this machine."""
    return spec.source if spec.kind in ("hub", "embedded", "package") else None


def _write_peft(adapter: Adapter, base: ModelSpec, folder: Path, *, for_vllm: bool) -> None:
    settings = settings_of(adapter)
    named = {"base_model_name_or_path": base_name(base)}
    if base.kind == "hub":
        # PEFT loads the base at this commit
        named["revision"] = base.revision
    if for_vllm:
        from safetensors.torch import load_file, save_file

        settings, state = uniform(settings, load_file(adapter.folder / WEIGHTS), adapter.folder)
        save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    else:
        shutil.copyfile(adapter.folder / WEIGHTS, folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps({**settings, **named}, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def uniform(
    settings: Mapping[str, Any], state: Mapping[str, Tensor], where: Path
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The same update with one rank and one scale for all layers, which is all that vLLM knows.

    Args:
        settings: PEFT settings.
        state: weights by name: of each layer A, shape [rank, inputs], and B, shape [outputs, rank].
        where: whose they are, for errors.

    Raises:
        ConfigError: it has weights other than A and B, or a rank that vLLM has no room for.
    """
    if (why := no_place_in_vllm(settings, state)) is not None:
        raise ConfigError(f"adapter {where} {why}: export it as `merged`, and serve that")
    ranks, alphas = settings.get("rank_pattern") or {}, settings.get("alpha_pattern") or {}
    if not ranks and not alphas:
        return dict(settings), dict(state)
    rank = max(int(settings["r"]), *(int(r) for r in ranks.values()), 1)
    made = {}
    for name in [k.removesuffix(".lora_A.weight") for k in state if k.endswith(".lora_A.weight")]:
        a, b = state[f"{name}.lora_A.weight"], state[f"{name}.lora_B.weight"]
        alpha = float(alphas.get(_pattern(alphas, name), settings["lora_alpha"]))
        scale = alpha / (math.sqrt(len(a)) if settings.get("use_rslora") else len(a))
        # rows and columns of zeros change nothing
        made[f"{name}.lora_A.weight"] = _padded(a, 0, rank)
        made[f"{name}.lora_B.weight"] = _padded((b.double() * scale).to(b.dtype), 1, rank)
    one = {"r": rank, "lora_alpha": rank, "use_rslora": False, "rank_pattern": {}, "alpha_pattern": {}}
    return {**settings, **one}, made


def _pattern(patterns: Mapping[str, Any], layer: str) -> str:
    from peft.utils.other import get_pattern_key

    return str(get_pattern_key(list(patterns), layer.removeprefix("base_model.model.")))


def _padded(matrix: Tensor, dimension: int, size: int) -> Tensor:
    import torch

    shape = list(matrix.shape)
    shape[dimension] = size - shape[dimension]
    return torch.cat([matrix, matrix.new_zeros(shape)], dim=dimension).contiguous()
