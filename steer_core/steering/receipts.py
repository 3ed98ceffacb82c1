"""The proof that an intervention touched the tokens it was meant to touch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from schemas.digest import canonical_json, digest_json
from schemas.vector_part import Site
from steer_core.steering.intervention import Intervention
from steer_core.steering.positions import parse_positions
from steer_core.tables.errors import SteerworksError


@dataclass(frozen=True)
class Touch:
    """One intervention of a row, and the tokens that were handed to its operator.

    An operator may leave a token as it is by a rule of its own (an adaptive rotation, a gated transport); it has been
    handed it all the same.

    Attributes:
        layer, site, operator, vector, coefficient, positions: as in the intervention.
        open: whether its gate was open; True without one.
        expected: tokens by prompt length, tokens fed and selector alone; 0 behind a closed gate.
        observed: distinct tokens of the row, pads excluded, counted where they were changed.
    """

    layer: int
    site: Site
    operator: str
    vector: str
    coefficient: float
    positions: str
    open: bool
    expected: int
    observed: int


@dataclass(frozen=True)
class Receipt:
    """What was done to one row.

    Attributes:
        realisation: how: `hook`, `fold`, `worker`, `lora` ...
        digest: digest of the interventions, as they stand in the plan.
        touches: one for each intervention, in order.
    """

    realisation: str
    digest: str
    touches: tuple[Touch, ...]

    def to_json(self) -> str:
        """Canonical JSON, as it stands in the table of responses."""
        return canonical_json(
            {
                "realisation": self.realisation,
                "digest": self.digest,
                "touches": [vars(t) for t in self.touches],
            }
        )


def make_receipt(
    row: int,
    interventions: Sequence[Intervention],
    prompt_length: int,
    tokens: int,
    observed: Sequence[int],
    is_open: Sequence[bool],
    realisation: str = "hook",
) -> Receipt:
    """The receipt of a row, if what was observed is what was expected.

    Args:
        row: its number in the batch, for messages.
        interventions: what should have been done.
        prompt_length: tokens of its prompt.
        tokens: tokens of the row that were fed to the model; the last one that was written is not.
        observed: tokens touched, one number for each intervention.
        is_open: whether each intervention's gate was open.
        realisation: how it was done.

    Raises:
        SteerworksError: expected and observed differ; names row, layer and both.
    """
    touches = []
    for i, seen, gate in zip(interventions, observed, is_open, strict=True):
        expected = parse_positions(i.positions).count(prompt_length, tokens) if gate else 0
        if seen != expected:
            raise SteerworksError(
                f"row {row}: the intervention at layer {i.layer}, site {i.site!r} ({i.operator}, positions "
                f"{i.positions!r}) should have touched {expected} tokens and touched {seen}: its answer is not steered "
                "as planned"
            )
        touches.append(Touch(i.layer, i.site, i.operator, i.vector, i.coefficient, i.positions, gate, expected, seen))
    return Receipt(realisation, digest_json([i.to_dict() for i in interventions]), tuple(touches))
