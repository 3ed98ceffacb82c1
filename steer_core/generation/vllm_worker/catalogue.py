"""Vectors that were handed in, as notes in a folder that all processes of an engine see.

An engine is several processes: the worker holds the tensors, and the front, which alone can answer HTTP 400, does not.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from pathlib import Path
from typing import Any

from .spec import Spec, SpecError

#: Where operator modules stand: beside this package when it is in vLLM's environment.
_HOME = "steer_core.steering.operators" if __name__.startswith("steer_core.") else f"{__package__}.operators"


def operator(name: str) -> Any:
    """The module of an operator."""
    return importlib.import_module(f"{_HOME}.{name}")


class Catalogue:
    """Notes on vectors: which tensors of how many rows, which numbers, and the digest of both.

    Args:
        folder: where notes are kept, one file a vector.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: dict[str, dict[str, Any]] = {}

    def add(self, name: str, note: dict[str, Any]) -> None:
        """Note a vector.

        Raises:
            SpecError: another vector has that name: what was cached under it would be wrong.
        """
        before = self.find(name)
        if before is not None and before["digest"] != note["digest"]:
            raise SpecError(f"another vector is called {name!r} already; a name is given once")
        self.folder.mkdir(parents=True, exist_ok=True)
        aside = self._file(name).with_suffix(".new")
        aside.write_text(json.dumps(note), encoding="utf-8")
        aside.replace(self._file(name))

    def find(self, name: str) -> dict[str, Any] | None:
        """The note on a vector; None where there is none."""
        if name not in self._read:
            try:
                self._read[name] = json.loads(self._file(name).read_text(encoding="utf-8"))
            except FileNotFoundError:
                return None
        return self._read[name]

    def _file(self, name: str) -> Path:
        return self.folder / f"{hashlib.sha256(name.encode()).hexdigest()[:40]}.json"

    def check(self, spec: Spec, layers: int, sites: tuple[str, ...]) -> None:
        """Refuse a spec that the worker could not carry out.

        Args:
            spec: of a request.
            layers: how many the model has.
            sites: those of the model's family.

        Raises:
            SpecError: an unknown vector, one that its operator cannot use, or a layer or site that the model lacks.
        """
        for edit in spec.edits:
            if edit.layer >= layers:
                raise SpecError(f"layer {edit.layer} is out of range: the model has layers 0 to {layers - 1}")
            if edit.site not in sites:
                raise SpecError(f"site {edit.site!r} is not known for this model's family; known: {', '.join(sites)}")
            note = self.find(edit.vector)
            if note is None:
                raise SpecError(f"vector {edit.vector!r} is not loaded: hand it in first (`steer_upload`)")
            if wrong := unfit(edit.operator, note):
                raise SpecError(f"operator {edit.operator!r} cannot apply vector {edit.vector!r}: {wrong}")


def unfit(name: str, note: dict[str, Any]) -> str | None:
    """What of a vector its operator cannot use, in words; None where it can use it."""
    module, rows = operator(name), note["tensors"]
    needed = [*module.TENSORS, *module.SCALARS]
    if missing := [n for n in needed if n not in rows and n not in note["scalars"]]:
        return f"it lacks {', '.join(missing)}; it has {', '.join([*rows, *note['scalars']])}"
    free = {rows[n] for n, k in module.TENSORS.items() if k == "k"}
    optional = {n: k for n, k in getattr(module, "OPTIONAL", {}).items() if n in rows}
    for tensor, k in {**module.TENSORS, **optional}.items():
        wanted = note["width"] if k == "width" else min(free) if k == "k" else k
        if rows[tensor] != wanted:
            return f"its tensor {tensor!r} has {rows[tensor]} rows, not {wanted}"
    return None
