"""What is done to an activation: one module an operator, found by its name.

A module of this package has

* `TENSORS`: name of each tensor that it needs -> its number of rows: a number, `k` (any, the same for all that say
  `k`), or `width` (a square map);
* `SCALARS`: names of the numbers that it needs;
* `apply(hidden, tensors, scalars, coefficient)`: the new hidden, with hidden of shape [rows, tokens, width], tensors
  name -> [k, width] on its device, coefficient of shape [rows, 1, 1]; hidden itself is left as it is;
* optionally `ADDITIVE = True`, where `apply` is `hidden + coefficient * direction`: many rows are then one addition.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from steer_core.steering.vector import SteeringVector
from steer_core.tables.errors import SteerworksError

if TYPE_CHECKING:
    from torch import Tensor

Apply = Callable[["Tensor", Mapping[str, "Tensor"], Mapping[str, float], "Tensor"], "Tensor"]


@dataclass(frozen=True)
class Operator:
    """An operator module, loaded.

    Attributes:
        name: module name.
        apply: what it does.
        tensors: rows that each of its tensors must have.
        scalars: numbers that it needs.
        additive: whether it only adds coefficient times direction.
    """

    name: str
    apply: Apply
    tensors: Mapping[str, int | str]
    scalars: tuple[str, ...]
    additive: bool

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
        for name, rows in self.tensors.items():
            shape = vector.tensors[name].shape
            wanted = vector.width if rows == "width" else min(free) if rows == "k" else rows
            if shape[0] != wanted:
                raise SteerworksError(f"{who}: tensor {name!r} has shape {shape}, not ({wanted}, {vector.width})")


def available_operators() -> tuple[str, ...]:
    """Names of the operators: the modules of this package."""
    return tuple(sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_")))


@cache
def load_operator(name: str) -> Operator:
    """The operator of that name.

    Raises:
        SteerworksError: there is none; the message lists those there are.
    """
    if name not in available_operators():
        raise SteerworksError(f"unknown operator {name!r}; there are: {', '.join(available_operators())}")
    module: Any = importlib.import_module(f"{__name__}.{name}")
    return Operator(name, module.apply, module.TENSORS, tuple(module.SCALARS), getattr(module, "ADDITIVE", False))
