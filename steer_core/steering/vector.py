"""A fitted steering vector: the noun that everything else fits, stores, combines and applies."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from schemas.digest import canonical_json, digest_bytes, digest_json
from schemas.vector_part import Site
from schemas.vectors import Vectors, VectorTensors
from steer_core.tables.errors import SteerworksError, TableError

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class SteeringVector:
    """An operator with its numbers, for one place of one layer of one model.

    Attributes:
        concept: behavior or goal.
        operator: module of `steer_core.steering.operators`.
        layer: 0-based decoder layer.
        tensors: name -> array of shape [k, width]; `direction` [1, width] where there is one.
        scalars: what units and operators need: `positive_share`, `residual_norm` ...
        model: fingerprint of the model that it was fitted on.
        site: where in the layer.
        estimator: how it was fitted.
        read: positions that activations were read at.
        template: digest of the chat template.
        n_positive, n_negative: examples of each class.
        reliability: cosine of the directions of two halves of the data; None where not computed.
        control: empty, `random:<seed>` or `shuffled:<seed>`.
        lineage: what it was made from; `seed` is the seed of the fit.
        kl_curve: (coefficient, nats a token) pairs measured on this model; calibration, no part of the id.

    Raises:
        ValueError: tensors are no matrices of one width.
        SteerworksError: empty, a layer below 0, or numbers that are none.
    """

    concept: str
    operator: str
    layer: int
    tensors: Mapping[str, Floats]
    scalars: Mapping[str, float]
    model: str
    site: Site = "residual"
    estimator: str = "imported"
    read: str = ""
    template: str = ""
    n_positive: int = 0
    n_negative: int = 0
    reliability: float | None = None
    control: str = ""
    lineage: Mapping[str, Any] = field(default_factory=dict)
    kl_curve: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        widths = {t.shape[1] for t in self.tensors.values() if t.ndim == 2}
        if len(widths) != 1 or any(t.ndim != 2 for t in self.tensors.values()):
            shapes = {n: t.shape for n, t in self.tensors.items()}
            raise ValueError(f"tensors of a vector have shape [rows, width] with one width; got {shapes}")
        if not all(t.size for t in self.tensors.values()):
            raise SteerworksError(f"vector of {self.concept!r}: a tensor of it is empty, so it has no width or no row")
        if self.layer < 0:
            raise SteerworksError(f"vector of {self.concept!r}: layer {self.layer}; layers are counted from 0")
        for name, tensor in self.tensors.items():
            if not np.isfinite(tensor).all():
                n = int((~np.isfinite(tensor)).sum())
                raise SteerworksError(
                    f"vector of {self.concept!r}, layer {self.layer}: {n} numbers of its tensor {name!r} are not finite"
                )
        if odd := [n for n, v in self.scalars.items() if not np.isfinite(v)]:
            raise SteerworksError(f"vector of {self.concept!r}: its scalar {odd[0]!r} is {self.scalars[odd[0]]}")

    @property
    def width(self) -> int:
        """Hidden size."""
        return int(next(iter(self.tensors.values())).shape[1])

    @property
    def direction(self) -> Floats:
        """The direction, shape [width].

        Raises:
            ValueError: the operator has none (a transport map).
        """
        if "direction" not in self.tensors:
            raise ValueError(f"vector of {self.concept!r} ({self.operator}) has no single direction")
        direction: Floats = self.tensors["direction"][0]
        return direction

    @property
    def norm(self) -> float | None:
        """L2 norm of the direction; None for maps without one."""
        return float(np.linalg.norm(self.direction)) if "direction" in self.tensors else None

    @property
    def id(self) -> str:
        """Digest of what decides its effect: operator, numbers, place and model."""
        numbers = {
            n: digest_bytes(np.ascontiguousarray(t, dtype="<f4").tobytes()) for n, t in sorted(self.tensors.items())
        }
        place = [self.operator, self.layer, self.site, self.width, self.model]
        return digest_json([place, numbers, dict(sorted(self.scalars.items()))])


def to_tables(vectors: Iterable[SteeringVector], part: str = "vector") -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows of `vectors` and `vector_tensors`.

    Args:
        vectors: what is written.
        part: label of the method's part that they are of.
    """
    rows: list[dict[str, Any]] = []
    numbers: dict[tuple[str, str, int], Floats] = {}
    for v in vectors:
        rows.append(
            {
                "part": part,
                "vector_id": v.id,
                "concept": v.concept,
                "control": v.control,
                "seed": int(v.lineage.get("seed", 0)),
                "estimator": v.estimator,
                "operator": v.operator,
                "layer": v.layer,
                "site": v.site,
                "read": v.read,
                "width": v.width,
                "norm": v.norm,
                "residual_norm": v.scalars.get("residual_norm"),
                "n_positive": v.n_positive,
                "n_negative": v.n_negative,
                "reliability": v.reliability,
                "model": v.model,
                "template": v.template,
                "scalars": canonical_json({**v.scalars}),
                "lineage": canonical_json({**v.lineage, "kl_curve": [list(p) for p in v.kl_curve]}),
            }
        )
        numbers |= {(v.id, name, k): row for name, t in v.tensors.items() for k, row in enumerate(t)}
    table = pl.DataFrame(rows, schema=Vectors.empty().schema, orient="row")
    tensors = pl.DataFrame(
        {
            "vector_id": [k[0] for k in numbers],
            "tensor": [k[1] for k in numbers],
            "row": [k[2] for k in numbers],
            "values": [np.asarray(v, dtype=np.float32) for v in numbers.values()],
        },
        schema=VectorTensors.empty().schema,
    )
    return table, tensors


def from_tables(
    table: pl.DataFrame, tensors: pl.DataFrame, *, model: str | None = None, width: int | None = None
) -> list[SteeringVector]:
    """The vectors that `to_tables` wrote.

    Args:
        table: rows of `vectors`.
        tensors: rows of `vector_tensors`.
        model: fingerprint of the model that they are meant for; None: not checked.
        width: its hidden size; None: not checked.

    Raises:
        TableError: fitted on another model or width, or the numbers do not match the id.
    """
    arrays: dict[str, dict[str, Floats]] = {}
    for (vector_id, name), rows in tensors.sort("row").group_by("vector_id", "tensor", maintain_order=True):
        arrays.setdefault(str(vector_id), {})[str(name)] = np.array(rows["values"].to_list(), dtype=np.float32)
    found = []
    for row in table.iter_rows(named=True):
        if model is not None and row["model"] != model:
            raise TableError(
                f"vector of {row['concept']!r} at layer {row['layer']} was fitted on model {row['model']}, not on "
                f"{model}: fit it on this model, or transfer it with `steer_core.vectors.algebra.transfer`"
            )
        if width is not None and row["width"] != width:
            raise TableError(
                f"vector of {row['concept']!r} has width {row['width']}; the model's hidden size is {width}"
            )
        lineage = json.loads(row["lineage"])
        curve = tuple((float(c), float(k)) for c, k in lineage.pop("kl_curve", []))
        vector = SteeringVector(
            concept=row["concept"],
            operator=row["operator"],
            layer=row["layer"],
            tensors=arrays.get(row["vector_id"], {}),
            scalars=json.loads(row["scalars"]),
            model=row["model"],
            site=row["site"],
            estimator=row["estimator"],
            read=row["read"],
            template=row["template"],
            n_positive=row["n_positive"],
            n_negative=row["n_negative"],
            reliability=row["reliability"],
            control=row["control"],
            lineage=lineage,
            kl_curve=curve,
        )
        if vector.id != row["vector_id"]:
            raise TableError(f"vector {row['vector_id']}: its numbers give id {vector.id}: a table was changed by hand")
        found.append(vector)
    return found
