"""Vectors: norms, largest numbers, digests and cosines of released BiPO vectors, through our importer."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from steer_core.evaluation.parity.claim import Claim, File, Supplies
from steer_core.evaluation.parity.published import COSINES, VECTORS, Vector
from steer_core.steering.exchange import import_torch
from steer_core.steering.vector import SteeringVector

BIPO = "Cao et al. (2024), BiPO, arXiv 2406.00045; repository cef1d00, pretrained_vector"
WIDTH = 4096


def _imported(vector: Vector, supplies: Supplies) -> SteeringVector:
    (found,) = import_torch(
        supplies.file(vector.file), concept=vector.name, model="as published", layer=vector.layer, width=WIDTH
    )
    return found


def _file(vector: Vector) -> File:
    return File(vector.file, f"BiPO, pretrained_vector/{vector.origin}")


def _numbers(vector: Vector) -> Claim:
    def measure(supplies: Supplies) -> Mapping[str, float | None]:
        found = _imported(vector, supplies)
        size = np.abs(found.direction)
        return {
            "L2 norm": found.norm,
            "largest number": float(size.max()),
            "place of the largest": int(size.argmax()),
            **{f"number {i}": float(found.direction[i]) for i in range(3)},
            "SHA-256, first 32 bits": int(str(found.lineage["sha256"])[:8], 16),
        }

    published: dict[str, int | str] = {
        "L2 norm": vector.norm,
        "largest number": vector.largest,
        "place of the largest": vector.at,
        **{f"number {i}": digits for i, digits in enumerate(vector.first)},
        "SHA-256, first 32 bits": int(vector.digest, 16),
    }
    return Claim(
        f"bipo-{vector.name}",
        f"Numbers of the released vector {vector.origin}",
        BIPO,
        published,
        measure,
        (_file(vector),),
    )


def _cosine(one: Vector, other: Vector, digits: str) -> Claim:
    def measure(supplies: Supplies) -> Mapping[str, float]:
        a, b = (np.asarray(_imported(v, supplies).direction, dtype=np.float64) for v in (one, other))
        return {"cosine": float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))}

    return Claim(
        f"bipo-cosine-{one.name}-{other.name}",
        f"Cosine of the vectors of {one.name} and {other.name}",
        BIPO,
        {"cosine": digits},
        measure,
        (_file(one), _file(other)),
    )


def claims() -> list[Claim]:
    """Claims of this family."""
    by_name = {v.name: v for v in VECTORS}
    return [
        *map(_numbers, VECTORS),
        *(_cosine(by_name[a], by_name[b], digits) for (a, b), digits in COSINES.items()),
    ]
