"""A training run in a folder: whole checkpoints, rows that are there up to them, and where it goes on after a kill.

    RUN/checkpoint-N/      what the trainer wrote; `whole` in it says that all of it is there
    RUN/NAME.jsonl         rows that the run streams, a line each; cut back to the last whole checkpoint on resuming

A state is whole or it is removed. Rows follow from recipe, data and seed, so a run that was taken up again leaves the
same ones as one that was not. Of several processes that train together the first alone writes; what each of them calls
here, all of them call.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steer_core.adapters.ranks import ALONE, Ranks
from steer_core.adapters.states import step_of
from steer_core.tables.errors import SteerworksError
from steer_core.tables.files import write_bytes

WHOLE = "whole"


def kept_steps(steps: int, checkpoints: int) -> tuple[int, ...]:
    """Steps whose states are kept: evenly spaced, the last one included; fewer where there are fewer steps."""
    n = min(steps, checkpoints)
    return tuple(sorted({round(steps * (k + 1) / n) for k in range(n)}))


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run.

    Attributes:
        path: where it lies.
        ranks: this process among those that train in it.
    """

    path: Path
    ranks: Ranks = ALONE

    def begin(self) -> int:
        """Make the folder ready, and say from which step the run goes on: 0 for a new one.

        Checkpoints that are not whole are removed, and rows beyond the last whole one are cut off.
        """
        if self.ranks.first:
            self._clear()
        self.ranks.wait()
        return max(self.checkpoints(), default=0)

    def _clear(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        for folder in self.path.glob("checkpoint-*"):
            if not (folder / WHOLE).is_file():
                shutil.rmtree(folder)
        step = max(self.checkpoints(), default=0)
        for file in self.path.glob("*.jsonl"):
            rows = [row for row in _read(file) if int(row["step"]) <= step]
            write_bytes(str(file), "".join(map(_line, rows)).encode("utf-8"))

    def checkpoints(self) -> dict[int, Path]:
        """Whole checkpoints by step."""
        found = {step_of(p.name): p for p in self.path.glob("checkpoint-*") if (p / WHOLE).is_file()}
        return {step: p for step, p in sorted(found.items()) if step is not None}

    def whole(self, step: int, kept: Sequence[int]) -> None:
        """Say that a checkpoint is whole; those before it that are not to be kept are removed."""
        # each process has written a part of it
        self.ranks.wait()
        if self.ranks.first:
            self._mark(step, kept)
        self.ranks.wait()

    def _mark(self, step: int, kept: Sequence[int]) -> None:
        folder = self.path / f"checkpoint-{step}"
        for file in folder.iterdir():
            if file.is_file():
                with file.open("rb") as opened:
                    os.fsync(opened.fileno())
        (folder / WHOLE).touch()
        for earlier, path in self.checkpoints().items():
            if earlier < step and earlier not in kept:
                shutil.rmtree(path)

    def append(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add rows, each with its `step`; once this returns they survive a kill."""
        text = "".join(map(_line, rows)) if self.ranks.first else ""
        if text:
            with (self.path / f"{name}.jsonl").open("a", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())

    def put(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Replace the rows of that name: all of them, or none where a kill comes in between."""
        if self.ranks.first:
            write_bytes(str(self.path / f"{name}.jsonl"), "".join(map(_line, rows)).encode("utf-8"))

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The rows of that name."""
        file = self.path / f"{name}.jsonl"
        return _read(file) if file.exists() else []


def _line(row: Mapping[str, Any]) -> str:
    said = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
    return json.dumps(said, ensure_ascii=False, allow_nan=False) + "\n"


def _read(file: Path) -> list[dict[str, Any]]:
    found, lines = [], file.read_text(encoding="utf-8").split("\n")
    for number, line in enumerate(lines[:-1], start=1):
        try:
            found.append(json.loads(line))
        except ValueError as error:
            raise SteerworksError(f"{file}, line {number} is damaged: remove the folder to train again") from error
    # what stands behind the last line break is a line that a kill cut off
    return found
