"""What is done to activations: operator, vector, place, positions, gate, coefficient. Plain data, part of a plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from schemas.vector_part import Site


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
    """

    operator: str
    vector: str
    layer: int
    coefficient: float
    site: Site = "residual"
    positions: str = "all"
    gate: Gate | None = None

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
        """The intervention that `to_dict` wrote."""
        gate = body.get("gate")
        return cls(**{**body, "gate": None if gate is None else Gate(**gate)})
