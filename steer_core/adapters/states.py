"""States of adapters: folders that PEFT's `save_pretrained` wrote, one or several of one run."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from schemas.digest import digest_json
from steer_core.generation.adapters import CONFIG, WEIGHTS, Adapter
from steer_core.tables.errors import ConfigError

_STEP = re.compile(r"(?:checkpoint|step|global_step)[-_]?(\d+)\Z")


@dataclass(frozen=True)
class State:
    """An adapter at a step of its training.

    Attributes:
        step: optimiser step, as its folder says; 0 where that says none.
        label: what it is called.
        adapter: the adapter.
        settings: its PEFT settings.
        rank: of the update.
        parameters: numbers in it.
        norm: of all its weights.
    """

    step: int
    label: str
    adapter: Adapter
    settings: Mapping[str, Any]
    rank: int
    parameters: int
    norm: float


def states_in(folder: Path) -> list[State]:
    """The adapter in a folder, or those in its subfolders, in the order of their steps.

    Raises:
        ConfigError: there is none, one of them cannot be worn, or two say the same step.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder: give what PEFT's save_pretrained wrote, or a folder of checkpoints")
    if (folder / CONFIG).is_file():
        return [state_of(folder, step_of(folder.name) or 0, folder.name)]
    inside = sorted(p for p in folder.iterdir() if (p / CONFIG).is_file())
    if not inside:
        raise ConfigError(f"{folder} holds no adapter: neither it nor a folder in it has {CONFIG}")
    steps = [step_of(p.name) for p in inside]
    if len(inside) > 1 and None in steps:
        odd = inside[steps.index(None)].name
        raise ConfigError(
            f"{folder} holds several adapters, and {odd!r} says no step: name them like `checkpoint-100`, or make each "
            "a method of its own"
        )
    found = sorted((state_of(p, s or 0, p.name) for p, s in zip(inside, steps, strict=True)), key=lambda s: s.step)
    if twice := [b for a, b in pairwise(found) if a.step == b.step]:
        raise ConfigError(f"{folder} holds two adapters of step {twice[0].step}: remove one")
    return found


def step_of(name: str) -> int | None:
    """The step that a folder's name says: `checkpoint-100` is 100."""
    match = _STEP.search(name)
    return int(match[1]) if match else None


def state_of(folder: Path, step: int, label: str) -> State:
    """What lies in one folder.

    Raises:
        ConfigError: it is no adapter that rows can wear, or its weights cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    adapter = Adapter.of(folder)
    settings = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    numbers, square = 0, 0.0
    try:
        with safe_open(str(folder / WEIGHTS), framework="pt") as file:
            for name in list(file.keys()):
                tensor = file.get_tensor(name)
                numbers += tensor.numel()
                square += float(tensor.double().square().sum())
    except (SafetensorError, OSError) as error:
        raise ConfigError(f"{folder / WEIGHTS} cannot be read: {error}") from error
    if not math.isfinite(square):
        raise ConfigError(f"{folder / WEIGHTS} holds numbers that are not finite: it cannot be worn")
    return State(step, label, adapter, settings, int(settings["r"]), numbers, math.sqrt(square))


def keep_state(source: Path, target: Path, base: str) -> None:
    """Copy what an adapter consists of, and nothing else; its settings name the base model and no path.

    Args:
        source: a checkpoint of a trainer.
        target: a folder that is made; the same adapter gives the same bytes in every run.
        base: what the base model is called.
    """
    settings = json.loads((source / CONFIG).read_text(encoding="utf-8"))
    settings = {k: sorted(v) if isinstance(v, list) and _words(v) else v for k, v in settings.items()}
    settings["base_model_name_or_path"] = base
    _put(target, (json.dumps(settings, indent=2, sort_keys=True) + "\n").encode("utf-8"), source / WEIGHTS)


def copy_state(source: Path, target: Path) -> None:
    """Copy what an adapter consists of, byte by byte: it keeps its digest."""
    _put(target, (source / CONFIG).read_bytes(), source / WEIGHTS)


def _put(target: Path, settings: bytes, weights: Path) -> None:
    """Write an adapter's two files aside, and put the folder in its place."""
    aside = target.with_name(f".{target.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    (aside / CONFIG).write_bytes(settings)
    shutil.copyfile(weights, aside / WEIGHTS)
    shutil.rmtree(target, ignore_errors=True)
    aside.rename(target)


def _words(values: Sequence[Any]) -> bool:
    return all(isinstance(v, str) for v in values)


def recipe_digest(recipe: Mapping[str, Any], model: str, data: Any) -> str:
    """What a training run is known by: recipe, model and data."""
    return digest_json([dict(recipe), model, data])
