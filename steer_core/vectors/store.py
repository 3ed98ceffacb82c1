"""An activation store: rows of contrast examples on disk, written once, read back by many fits without the model.

    <root>/<key>/examples.json             what the rows are of: model, template, reading, example ids in order
    <root>/<key>/<layer>-<site>.npy        activations, float32, shape [examples, width]

The key is a digest of model, template, reading and example ids (which are hashes of their texts), so nothing that would
change an activation can be missed. Files are written aside and renamed, and read memory-mapped.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from schemas.digest import digest_json
from steer_core.tables.errors import TableError
from steer_core.tables.files import write_bytes
from steer_core.vectors.evidence import Point

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Subject:
    """What rows of activations are of.

    Attributes:
        model: digest of the model's fingerprint and dtype.
        template: digest of the chat template.
        read: where in the examples.
        examples: ids of the examples, in the order of the rows.
    """

    model: str
    template: str
    read: str
    examples: tuple[str, ...]

    @property
    def key(self) -> str:
        """Digest of all of it."""
        return digest_json([self.model, self.template, self.read, list(self.examples)])


@dataclass(frozen=True)
class ActivationStore:
    """Activations below one local folder, which is made when something is written.

    Attributes:
        root: the folder.
    """

    root: Path

    def missing(self, subject: Subject, points: Sequence[Point]) -> list[Point]:
        """The points that the store has no rows of."""
        return [p for p in dict.fromkeys(points) if not self._file(subject, p).is_file()]

    def read(self, subject: Subject, point: Point) -> Floats:
        """Rows of a point, memory-mapped and read-only, shape [examples, width].

        Raises:
            TableError: there are none, or the file is damaged.
        """
        file = self._file(subject, point)
        try:
            rows: Floats = np.load(file, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError as error:
            raise TableError(
                f"activation store {self.root} has no rows of layer {point.layer} ({point.site}) for these examples"
            ) from error
        except ValueError as error:
            raise TableError(
                f"{file} is damaged ({error}): remove it, and the activations are computed again"
            ) from error
        if rows.dtype != np.float32 or rows.ndim != 2 or len(rows) != len(subject.examples):
            raise TableError(
                f"{file} has {rows.dtype} of shape {rows.shape}, not float32 for {len(subject.examples)} examples: "
                "remove it, and the activations are computed again"
            )
        return rows

    @contextmanager
    def writing(self, subject: Subject, points: Sequence[Point], width: int) -> Iterator[dict[Point, Floats]]:
        """Memory-mapped arrays to fill, shape [examples, width]; they are published when the block ends well.

        Every row starts as NaN, and rows that are still NaN in the end are an error: nothing half-filled is published.

        Raises:
            TableError: rows were left out.
        """
        folder = self.root / subject.key
        folder.mkdir(parents=True, exist_ok=True)
        aside = {p: folder / f".{self._file(subject, p).name}.{os.getpid()}-{uuid.uuid4().hex}.tmp" for p in points}
        shape = (len(subject.examples), width)
        try:
            arrays: dict[Point, Floats] = {}
            for point, path in aside.items():
                arrays[point] = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
                arrays[point][:] = np.nan
            yield arrays
            for point, rows in arrays.items():
                if empty := int(np.isnan(rows[:, 0]).sum()):
                    raise TableError(f"{empty} of {len(rows)} activations of layer {point.layer} were never written")
                rows.flush()  # type: ignore[attr-defined]  # a memory map
            about = {"model": subject.model, "template": subject.template, "read": subject.read}
            body = json.dumps({**about, "examples": list(subject.examples)}, indent=1)
            write_bytes(str(folder / "examples.json"), body.encode())
            for point, path in aside.items():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
                path.replace(self._file(subject, point))
        finally:
            for path in aside.values():
                path.unlink(missing_ok=True)

    def _file(self, subject: Subject, point: Point) -> Path:
        return self.root / subject.key / f"{point.layer:03d}-{point.site}.npy"
