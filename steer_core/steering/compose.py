"""From fitted vectors and a strength to the interventions of a plan."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from steer_core.steering.intervention import Gate, Intervention
from steer_core.steering.strength import Strength, coefficient
from steer_core.steering.vector import SteeringVector

#: `control` of a vector that is the condition of a gate.
CONDITION = "condition"


def gate_of(vectors: Iterable[SteeringVector]) -> Gate | None:
    """The gate of a method, from its condition vector; None where it has none."""
    for v in vectors:
        if v.control == CONDITION:
            return Gate(v.id, v.layer, v.scalars["gate_threshold"], v.scalars["gate_above"] == 1.0)
    return None


def interventions(
    vectors: Sequence[SteeringVector],
    strength: Strength | None,
    *,
    positions: str = "all",
    gate: Gate | None = None,
) -> tuple[Intervention, ...]:
    """One intervention for each vector, in the order given; none where the strength is None.

    Args:
        vectors: vectors of one concept, one for each layer and site.
        strength: shared by all of them; its unit is resolved for each vector on its own.
        positions: selector over absolute positions.
        gate: condition on the row's prompt.

    Raises:
        SteerworksError: the unit does not fit a vector.
    """
    if strength is None:
        return ()
    return tuple(
        Intervention(
            operator=v.operator,
            vector=v.id,
            layer=v.layer,
            coefficient=coefficient(strength, v),
            site=v.site,
            positions=positions,
            gate=gate,
        )
        for v in vectors
    )
