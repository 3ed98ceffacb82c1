"""What a bad input is: something to do in an empty folder, and the words that its refusal must have."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from steer_assets import settings
from steer_assets.partitions import all_cells
from steer_assets.preflight import check_bench
from steer_core.steering.vector import SteeringVector

SHIPPED = Path(__file__).parents[2] / "config"


@dataclass(frozen=True)
class World:
    """Where a case plays.

    Attributes:
        folder: an empty folder for what is read.
        out: a folder with one file in it, for what is written; a refusal leaves it as it was.
        model: the embedded model, as `steer_core.load` gives it.
        vector: a vector that was fitted on it.
        config: a configuration with a bench `small`.
    """

    folder: Path
    out: Path
    model: Any = None
    vector: Any = None
    config: Path | None = None

    def write(self, name: str, content: str | bytes | object) -> Path:
        """A file of the folder: text, bytes, or what YAML makes of anything else."""
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            file.write_bytes(content)
        else:
            file.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
        return file


@dataclass(frozen=True)
class Case:
    """One bad input.

    Attributes:
        name: what is bad, in words.
        call: what is done with it.
        says: what the message must hold, each of them: file, entry, argument.
        errors: further classes of errors that the called code documents.
    """

    name: str
    call: Callable[[World], object]
    says: Sequence[str]
    errors: tuple[type[Exception], ...] = field(default=())


def state_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def changed(base: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of nested mappings and lists with one place changed; `...` as the value takes it away."""
    whole = copy.deepcopy(dict(base))
    at: Any = whole
    *before, last = [int(k) if k.isdecimal() else k for k in path.split(".")]
    for key in before:
        at = at[key]
    if value is ...:
        del at[last]
    else:
        at[last] = value
    return whole


def start(world: World, bench: str = "own") -> None:
    """Read the configuration in the folder and look at a bench, as every run does before a model is called."""
    configured = settings.registry().bench(bench)
    check_bench(configured, all_cells(configured))


def vector(layer: int = 1, width: int = 8, **fields: Any) -> SteeringVector:
    """A small vector of numbers that are easily told apart."""
    numbers = np.arange(1, width + 1, dtype=np.float32)[None]
    known: dict[str, Any] = {"concept": "tea", "operator": "add", "scalars": {"residual_norm": 3.0}, "model": "abc"}
    return SteeringVector(**{**known, "layer": layer, "tensors": {"direction": numbers}, **fields})


def rewritten(file: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the JSON of a file in place."""
    body = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(change(body)), encoding="utf-8")
