"""A fitted steering vector: the noun that everything else fits, stores, combines and applies."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from schemas.digest import canonical_json, digest_bytes, digest_json
from schemas.vector_part import Site
from schemas.vectors import Vectors, VectorTensors
from steer_core.tables.damage import reading
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
        SteerworksError: tensors are no matrices of one width, a layer below 0, or numbers that are none.
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
        if (wrong := next(_mistakes(self), None)) is not None:
            raise SteerworksError(f"vector of {self.concept!r}, layer {self.layer}: {wrong}")

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


def _mistakes(v: SteeringVector) -> Iterator[str]:
    """What makes no vector, in words."""
    for name, tensor in v.tensors.items():
        if not isinstance(tensor, np.ndarray) or tensor.dtype.kind != "f":
            kind = getattr(tensor, "dtype", type(tensor).__name__)
            yield f"its tensor {name!r} is no array of floating point numbers, but {kind}"
        elif tensor.ndim != 2:
            yield f"its tensor {name!r} has shape {tensor.shape}; it must be [rows, width]"
        elif not tensor.size:
            yield "a tensor of it is empty, so it has no width or no row"
        elif not np.isfinite(tensor).all():
            yield f"{int((~np.isfinite(tensor)).sum())} numbers of its tensor {name!r} are not finite"
    if len({t.shape[1] for t in v.tensors.values()}) != 1:
        shapes = {n: t.shape for n, t in v.tensors.items()}
        yield f"its tensors have shape [rows, width] with one width, and there is at least one; got {shapes or 'none'}"
    if isinstance(v.layer, bool) or not isinstance(v.layer, int | np.integer):
        yield f"{v.layer!r} is no layer; layers are whole numbers"
    elif v.layer < 0:
        yield f"layer {v.layer}; layers are counted from 0"
    if v.site not in get_args(Site):
        yield f"unknown site {v.site!r}; there are: {', '.join(get_args(Site))}"
    for name, value in {**v.scalars, "reliability": 0.0 if v.reliability is None else v.reliability}.items():
        if not _is_number(value):
            yield f"its scalar {name!r} is {value!r}"
    if not all(_is_number(c) and _is_number(n) for c, n in v.kl_curve):
        yield f"its KL curve holds numbers that are not finite: {v.kl_curve}"
    if not min(v.n_positive, v.n_negative) >= 0:
        yield f"{v.n_positive} positive and {v.n_negative} negative examples"
    if not isinstance(v.lineage, Mapping):
        yield f"its lineage is {type(v.lineage).__name__}, not a mapping"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and bool(np.isfinite(value))


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
        with reading(f"tensor {name!r} of vector {vector_id}", TableError):
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
        with reading(f"row of the vector of {row['concept']!r} at layer {row['layer']}", TableError):
            vector = _from_row(row, arrays.get(row["vector_id"], {}))
        if vector.id != row["vector_id"]:
            raise TableError(f"vector {row['vector_id']}: its numbers give id {vector.id}: a table was changed by hand")
        found.append(vector)
    return found


def _from_row(row: Mapping[str, Any], tensors: Mapping[str, Floats]) -> SteeringVector:
    lineage = json.loads(row["lineage"])
    curve = tuple((float(c), float(k)) for c, k in lineage.pop("kl_curve", []))
    plain = ("concept", "operator", "layer", "model", "site", "estimator", "read", "template")
    counted = ("n_positive", "n_negative", "reliability", "control")
    return SteeringVector(
        tensors=tensors,
        scalars=json.loads(row["scalars"]),
        lineage=lineage,
        kl_curve=curve,
        **{name: row[name] for name in (*plain, *counted)},
    )
