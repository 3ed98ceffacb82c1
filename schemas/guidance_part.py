"""Guidance as a part of a method."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from schemas.parts import PartSpec
from schemas.spec import Slug


class GuidancePart(PartSpec):
    """How much a prompt counts for, against another."""

    kind: Literal["guidance"] = "guidance"
    scale: float = Field(1.5, ge=0.0, description="1: the prompt as it is; 0: the other one; above 1: more than asked")
    against: Slug = Field("rewrite", description="Strategy of the other prompt; it must ask once")
