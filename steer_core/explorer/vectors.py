"""What cells learnt: vectors with norms, reliability and cosines, states of adapters, and what they came from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from steer_core.explorer.bench import Bench

#: Vectors whose cosines are shown.
MOST = 24


@dataclass(frozen=True)
class Learnt:
    """What the parts of a cell are.

    Attributes:
        cell: `method|model`.
        vectors: rows of `schemas.Vectors`, controls aside, with `made_from` in words.
        names: what the rows of `cosines` are called.
        cosines: between the directions, shape [n, n]; None with fewer than two of one width.
        left_out: vectors whose cosines are not shown.
        adapters: rows of `schemas.Adapters`, a state a row.
    """

    cell: str
    vectors: tuple[dict[str, Any], ...]
    names: tuple[str, ...]
    cosines: Any | None
    left_out: int
    adapters: tuple[dict[str, Any], ...]


def learnt(bench: Bench, cell: str) -> Learnt:
    """Vectors and adapters of a cell."""
    rows = bench.rows("vectors", cell).filter(pl.col("control") == "").sort("part", "concept", "layer", "seed")
    vectors = tuple({**r, "made_from": _made_from(r["lineage"])} for r in rows.iter_rows(named=True))
    shown = vectors[:MOST]
    directions = _directions(bench, cell, [v["vector_id"] for v in shown])
    known = [v for v in shown if v["vector_id"] in directions]
    cosines = None
    if len(known) > 1 and len({len(directions[v["vector_id"]]) for v in known}) == 1:
        stacked = np.stack([directions[v["vector_id"]] for v in known])
        norms = np.linalg.norm(stacked, axis=1, keepdims=True)
        units = np.divide(stacked, norms, out=np.zeros_like(stacked), where=norms > 0)
        cosines = units @ units.T
    layers = {v["layer"] for v in known}
    names = tuple(v["concept"] + (f", layer {v['layer']}" if len(layers) > 1 else "") for v in known)
    adapters = tuple(bench.rows("adapters", cell).iter_rows(named=True))
    return Learnt(cell, vectors, names, cosines, len(vectors) - len(known), adapters)


def _directions(bench: Bench, cell: str, ids: list[str]) -> dict[str, Any]:
    rows = bench.rows("vector_tensors", cell).filter(
        pl.col("vector_id").is_in(ids), pl.col("tensor") == "direction", pl.col("row") == 0
    )
    return {i: np.asarray(v, dtype=np.float64) for i, v in rows.select("vector_id", "values").iter_rows()}


def _made_from(lineage: str) -> str:
    made = json.loads(lineage)
    said = [f"examples {made['examples'][:8]}"] if made.get("examples") else []
    said += [f"{name} {value}" for name, value in (made.get("options") or {}).items()]
    return ", ".join(said)
