"""Amplified steering as a part of a method."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import Field

from schemas.parts import PartSpec


class AmplifyPart(PartSpec):
    """How much the other parts' steering counts for in what is written, against the model without it."""

    kind: Literal["amplify"] = "amplify"
    scale: float = Field(
        1.5, ge=0.0, description="1: the steering as it is; below: less of it; above: more than it gives"
    )
    alpha: float = Field(
        0.1, ge=0.0, le=1.0, description="Tokens less likely than this share of the likeliest, steered, are not written"
    )

    def beside(self, others: Sequence[PartSpec]) -> Iterator[str]:
        """It amplifies what other parts do to the model."""
        if not any(p.kind not in ("prompt", "guidance", "amplify") for p in others):
            yield "`amplify` needs a part that changes the model, a vector or an adapter: there is nothing to amplify"
