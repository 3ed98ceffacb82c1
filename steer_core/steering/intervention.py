"""What is done to activations: operator, vector, place, positions, gate, coefficient. Plain data, part of a plan."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, get_args

from schemas.vector_part import Site
from steer_core.steering.positions import parse_positions
from steer_core.tables.damage import reading
from steer_core.tables.errors import SteerworksError


@dataclass(frozen=True)
class Gate:
    """Condition on a row's prompt: cosine of its mean activation with a condition vector.

    Attributes:
        vector: id of the condition vector (its `direction` is used).
        layer: 0-based layer whose residual stream is looked at, before any intervention at that layer.
        threshold: cosine from which the condition holds.
        above: False: it holds below the threshold.
    """

    vector: str
    layer: int
    threshold: float
    above: bool = True


@dataclass(frozen=True)
class Intervention:
    """One vector applied at one place of one layer.

    Attributes:
        operator: module of `steer_core.steering.operators`.
        vector: id of the `SteeringVector`.
        layer: 0-based decoder layer.
        site: `residual` (stream after the layer), `attention` or `mlp` (what they write into the stream).
        positions: selector over absolute positions, see `steer_core.steering.positions`.
        coefficient: what the operator scales with; strengths of other units are resolved before a plan is made.
        gate: condition on the row's prompt; None: always.

    Raises:
        SteerworksError: a layer or coefficient that is no number, an unknown site, or no position.
    """

    operator: str
    vector: str
    layer: int
    coefficient: float
    site: Site = "residual"
    positions: str = "all"
    gate: Gate | None = None

    def __post_init__(self) -> None:
        if isinstance(self.layer, bool) or not isinstance(self.layer, Integral):
            raise SteerworksError(f"intervention: layer {self.layer!r}; layers are whole numbers")
        if not isinstance(self.coefficient, Real):
            raise SteerworksError(f"intervention at layer {self.layer}: coefficient {self.coefficient!r} is no number")
        if self.site not in get_args(Site):
            raise SteerworksError(f"intervention at layer {self.layer}: unknown site {self.site!r}")
        if not isinstance(self.positions, str):
            raise SteerworksError(f"intervention at layer {self.layer}: positions {self.positions!r} are no selector")
        parse_positions(self.positions)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; fields at their default are left out."""
        body: dict[str, Any] = {
            "operator": self.operator,
            "vector": self.vector,
            "layer": self.layer,
            "coefficient": self.coefficient,
        }
        if self.site != "residual":
            body["site"] = self.site
        if self.positions != "all":
            body["positions"] = self.positions
        if self.gate is not None:
            body["gate"] = {
                "vector": self.gate.vector,
                "layer": self.gate.layer,
                "threshold": self.gate.threshold,
                "above": self.gate.above,
            }
        return body

    @classmethod
    def from_dict(cls, body: dict[str, Any]) -> Intervention:
        """The intervention that `to_dict` wrote.

        Raises:
            SteerworksError: it is something else; says what.
        """
        with reading("intervention"):
            gate = body.get("gate")
            found = cls(**{**body, "gate": None if gate is None else Gate(**gate)})
            if found.layer < 0 or not math.isfinite(found.coefficient):
                raise ValueError(f"layer {found.layer} and coefficient {found.coefficient}: from 0 on, and finite")
            return found
