"""Algebra of steering vectors. Every result says in its lineage which operation made it, and from which vectors.

What no longer holds is dropped: the class scale where the length changes, measured KL curves and reliability always.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from steer_core.steering.vector import SteeringVector
from steer_core.tables.errors import SteerworksError
from steer_core.vectors.linalg import as_rows
from steer_core.vectors.moments import Doubles

#: Scalars that place the class means on the vector's own scale.
_CLASS_SCALE = ("positive_share", "alpha_at_zero")
#: Operators that are nothing but their direction.
_LINEAR = ("add", "add_norm_preserving", "ablate")

#: A remainder of this share of the vector is rounding.
_ROUNDING = 1e-6


def add(
    vectors: Sequence[SteeringVector], weights: Sequence[float] | None = None, *, concept: str | None = None
) -> SteeringVector:
    """Weighted sum of vectors of one layer, site and model.

    Args:
        vectors: at least one.
        weights: one each; None: all 1.
        concept: name of the result; None joins theirs with `+`.

    Raises:
        SteerworksError: they do not share layer, site, model and operator, or are maps rather than directions.
        ValueError: numbers of vectors and weights differ, or there are none.
    """
    used = [1.0] * len(vectors) if weights is None else [float(w) for w in weights]
    if not vectors or len(used) != len(vectors):
        raise ValueError(f"{len(vectors)} vectors with {len(used)} weights")
    first = vectors[0]
    for other in vectors[1:]:
        _check_same_place(first, other)
    total = sum((w * _numbers(v) for w, v in zip(used, vectors, strict=True)), np.zeros(first.width))
    name = concept if concept is not None else "+".join(v.concept for v in vectors)
    made = _derived(first, total, "add", vectors, weights=used)
    # examples are counted once a vector: the same data behind two of them would count twice
    return replace(made, concept=name, n_positive=0, n_negative=0)


def scale(vector: SteeringVector, factor: float) -> SteeringVector:
    """The vector times a number.

    Raises:
        SteerworksError: it is a map rather than a direction.
    """
    return _derived(vector, float(factor) * _numbers(vector), "scale", [vector], factor=float(factor))


def negate(vector: SteeringVector, *, concept: str | None = None) -> SteeringVector:
    """The vector of the opposite concept: direction and classes change sides, so `class_alpha` keeps its meaning.

    Args:
        vector: a direction.
        concept: name of the opposite; None puts `not-` before the name.

    Raises:
        SteerworksError: it is a map rather than a direction.
    """
    made = _derived(vector, -_numbers(vector), "negate", [vector])
    scalars = dict(made.scalars)
    if "positive_share" in vector.scalars:
        scalars["positive_share"] = 1.0 - vector.scalars["positive_share"]
    return replace(
        made,
        concept=concept if concept is not None else f"not-{vector.concept}",
        scalars=scalars,
        n_positive=vector.n_negative,
        n_negative=vector.n_positive,
    )


def orthogonalise(vector: SteeringVector, against: Sequence[SteeringVector]) -> SteeringVector:
    """The part of a vector that is orthogonal to the span of others, e.g. a concept without its side effects.

    Raises:
        SteerworksError: they do not share layer, site and model, are maps, or nothing is left.
    """
    for other in against:
        _check_same_place(vector, other, operator=False)
    numbers = _numbers(vector)
    rest = numbers
    if against:
        _, values, basis = np.linalg.svd(np.stack([_numbers(v) for v in against]), full_matrices=False)
        span = basis[values > _ROUNDING * values.max()]  # parallel vectors span one direction once
        rest = numbers - span.T @ (span @ numbers)
    if np.linalg.norm(rest) <= _ROUNDING * np.linalg.norm(numbers):
        raise SteerworksError(
            f"vector of {vector.concept!r} at layer {vector.layer} lies in the span of "
            f"{', '.join(repr(v.concept) for v in against)}: nothing is left of it"
        )
    return _derived(vector, rest, "orthogonalise", [vector, *against])


def rescale_to_common_norm(vectors: Sequence[SteeringVector]) -> list[SteeringVector]:
    """The vectors, those of one layer and site all with the mean of their norms, so that concepts compare (CAA).

    Raises:
        SteerworksError: a vector is a map or zero, or two vectors of one place belong to different models.
    """
    places: dict[tuple[int, str], list[SteeringVector]] = {}
    for vector in vectors:
        places.setdefault((vector.layer, vector.site), []).append(vector)
    common: dict[tuple[int, str], float] = {}
    for place, members in places.items():
        for other in members[1:]:
            _check_same_place(members[0], other, operator=False)
        norms = [float(np.linalg.norm(_numbers(v))) for v in members]
        if min(norms) == 0.0:
            zero = members[norms.index(0.0)]
            raise SteerworksError(f"vector of {zero.concept!r} at layer {zero.layer} is zero: it has no scale")
        common[place] = float(np.mean(norms))
    made = []
    for vector in vectors:
        target = common[vector.layer, vector.site]
        numbers = _numbers(vector)
        rescaled = numbers * (target / np.linalg.norm(numbers))
        made.append(_derived(vector, rescaled, "rescale_to_common_norm", [vector], norm=target))
    return made


def transfer(vector: SteeringVector, model: str, width: int, *, template: str = "") -> SteeringVector:
    """The vector for another model of the same width: a claim that its space is alike, which the lineage records.

    Args:
        vector: any vector, maps included.
        model: fingerprint of the other model.
        width: its hidden size.
        template: digest of its chat template; empty: unknown.

    Raises:
        SteerworksError: the widths differ.
    """
    if vector.width != width:
        raise SteerworksError(
            f"vector of {vector.concept!r} has width {vector.width}, the other model {width}: only models of one width "
            "can take each other's vectors; fit it on the other model instead"
        )
    # norms of activations and divergences were measured on the other model
    scalars = {n: s for n, s in vector.scalars.items() if n != "residual_norm"}
    lineage = {"operation": "transfer", "parents": [vector.id], "source_model": vector.model}
    if "seed" in vector.lineage:
        # sweeps tell fits of several seeds apart by it
        lineage["seed"] = vector.lineage["seed"]
    return replace(
        vector, model=model, template=template, scalars=scalars, lineage=lineage, reliability=None, kl_curve=()
    )


def compare(vectors: Sequence[SteeringVector]) -> pl.DataFrame:
    """Cosines of all vectors of each layer and site with each other, both ways round and with themselves.

    Returns:
        Columns left, right (concepts, with the control after a space where it is one), layer, site, cosine.

    Raises:
        SteerworksError: a vector is a map or zero, or two vectors of one place belong to different models.
    """
    rows: list[dict[str, Any]] = []
    for left in vectors:
        for right in vectors:
            if (left.layer, left.site) != (right.layer, right.site):
                continue
            _check_same_place(left, right, operator=False)
            a, b = _numbers(left), _numbers(right)
            norms = float(np.linalg.norm(a) * np.linalg.norm(b))
            if norms == 0.0:
                raise SteerworksError(
                    f"a vector of {left.concept!r} or {right.concept!r} at layer {left.layer} is zero: no angle"
                )
            cosine = float(np.clip(a @ b / norms, -1.0, 1.0))
            rows.append(
                {
                    "left": f"{left.concept} {left.control}".strip(),
                    "right": f"{right.concept} {right.control}".strip(),
                    "layer": left.layer,
                    "site": left.site,
                    "cosine": cosine,
                }
            )
    schema = {
        "left": pl.String(),
        "right": pl.String(),
        "layer": pl.Int64(),
        "site": pl.String(),
        "cosine": pl.Float64(),
    }
    return pl.DataFrame(rows, schema=schema).sort("layer", "site", maintain_order=True)


def _numbers(vector: SteeringVector) -> Doubles:
    if vector.operator not in _LINEAR:
        raise SteerworksError(
            f"vector of {vector.concept!r} at layer {vector.layer} is a map (operator {vector.operator!r}), not a "
            f"direction: the algebra is for operators {', '.join(_LINEAR)}"
        )
    return vector.direction.astype(np.float64)


def _check_same_place(one: SteeringVector, other: SteeringVector, *, operator: bool = True) -> None:
    """Refuse vectors that mean different things: numbers of two models, layers or sites share no axes."""
    what = ("model", "layer", "site", "width", *(("operator",) if operator else ()))
    for name in what:
        if getattr(one, name) != getattr(other, name):
            raise SteerworksError(
                f"vectors of {one.concept!r} and {other.concept!r} differ in {name}: {getattr(one, name)!r} and "
                f"{getattr(other, name)!r}; combine vectors of one place of one model"
            )


def _derived(
    vector: SteeringVector, numbers: Doubles, operation: str, parents: Sequence[SteeringVector], **details: Any
) -> SteeringVector:
    return replace(
        vector,
        tensors={"direction": as_rows(numbers)},
        scalars={n: s for n, s in vector.scalars.items() if n not in _CLASS_SCALE},
        estimator="algebra",
        lineage={"operation": operation, "parents": [v.id for v in parents], **details},
        reliability=None,
        kl_curve=(),
    )
