"""What is done to an activation: one module an operator, found by its name (`steer_core.extensions`).

Such a module has

* `TENSORS`: name of each tensor that it needs -> its number of rows: a number, `k` (any, the same for all that say
  `k`), or `width` (a square map);
* `SCALARS`: names of the numbers that it needs;
* `UNITS`: units of strength that mean something to it (`kl` goes with all);
* `apply(hidden, tensors, scalars, coefficient)`: the new hidden, with hidden of shape [rows, tokens, width], tensors
  name -> [k, width] on its device, coefficient of shape [rows, 1, 1]; hidden itself is left as it is;
* `random_control(tensors, draw)`: the tensors of a control whose edit of every activation is as large, and goes
  elsewhere; `draw(k)` gives k random orthonormal rows of the width;
* optionally `OPTIONAL`, tensors like `TENSORS` that it knows what to do with, and `IDLE_AT_ZERO = True`, where
  coefficient 0 changes nothing;
* optionally `ADDITIVE = True`, where `apply` is `hidden + coefficient * direction`: many rows are then one addition;
* optionally `affine_map(tensors, coefficient)`: left and right [k, width] and shift [width] of
  h - left' right h + shift, where it is that: such an edit folds into weights.

"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from steer_core import extensions
from steer_core.steering.vector import SteeringVector
from steer_core.tables.errors import SteerworksError

if TYPE_CHECKING:
    from torch import Tensor

Apply = Callable[["Tensor", Mapping[str, "Tensor"], Mapping[str, float], "Tensor"], "Tensor"]
#: Tensors of a vector by name, each [rows, width].
Numbers = Mapping[str, NDArray[Any]]
#: k -> k random orthonormal rows, [k, width].
Draw = Callable[[int], NDArray[np.float64]]
#: left [k, width], right [k, width], shift [width].
Map = tuple["Tensor", "Tensor", "Tensor"]


@dataclass(frozen=True)
class Operator:
    """An operator module, loaded.

    Attributes:
        name: module name.
        apply: what it does.
        tensors: rows that each of its tensors must have.
        scalars: numbers that it needs.
        units: units of strength that mean something to it, beside `kl`.
        random_control: tensors of a random control of equal size.
        optional: rows of tensors that it may have.
        idle_at_zero: whether coefficient 0 changes nothing.
        additive: whether it only adds coefficient times direction.
        affine_map: its map as left, right and shift, where it is affine.
    """

    name: str
    apply: Apply
    tensors: Mapping[str, int | str]
    scalars: tuple[str, ...]
    units: frozenset[str]
    random_control: Callable[[Numbers, Draw], Numbers]
    optional: Mapping[str, int | str] = field(default_factory=dict)
    idle_at_zero: bool = False
    additive: bool = False
    affine_map: Callable[[Mapping[str, Tensor], float], Map] | None = None

    def check(self, vector: SteeringVector) -> None:
        """Refuse a vector that lacks what the operator needs.

        Raises:
            SteerworksError: a tensor or scalar is missing, or a tensor has another shape.
        """
        who = f"operator {self.name!r} cannot apply the vector of {vector.concept!r} ({vector.estimator})"
        missing = [n for n in self.tensors if n not in vector.tensors] + [
            n for n in self.scalars if n not in vector.scalars
        ]
        if missing:
            having = ", ".join([*vector.tensors, *vector.scalars])
            raise SteerworksError(f"{who}: it lacks {', '.join(missing)}; it has {having}")
        free = {vector.tensors[n].shape[0] for n, rows in self.tensors.items() if rows == "k"}
        given = {n: rows for n, rows in self.optional.items() if n in vector.tensors}
        for name, rows in {**self.tensors, **given}.items():
            shape = vector.tensors[name].shape
            wanted = vector.width if rows == "width" else min(free) if rows == "k" else rows
            if shape[0] != wanted:
                raise SteerworksError(f"{who}: tensor {name!r} has shape {shape}, not ({wanted}, {vector.width})")


def available_operators() -> tuple[str, ...]:
    """Names of the operators, with underscores: see `steer_core.extensions`."""
    return tuple(name.replace("-", "_") for name in extensions.available("operators"))


@cache
def load_operator(name: str) -> Operator:
    """The operator of that name.

    Raises:
        SteerworksError: there is none; the message lists those there are.
    """
    if name not in available_operators():
        raise SteerworksError(f"unknown operator {name!r}; there are: {', '.join(available_operators())}")
    module: Any = extensions.load("operators", name)
    return Operator(
        name,
        module.apply,
        module.TENSORS,
        tuple(module.SCALARS),
        frozenset(module.UNITS),
        module.random_control,
        getattr(module, "OPTIONAL", {}),
        getattr(module, "IDLE_AT_ZERO", False),
        getattr(module, "ADDITIVE", False),
        getattr(module, "affine_map", None),
    )
