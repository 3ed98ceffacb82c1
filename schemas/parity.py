"""Parity: published numbers beside what this code makes of the same inputs."""

from __future__ import annotations

from schemas.contract import Contract, column

#: Families of claims: one asset check each.
FAMILIES = ("profiles", "probes", "metrics", "vectors", "contrasts", "training", "models")
#: What became of a figure.
REPRODUCED, DIFFERS, NOT_RUN = "reproduced", "differs", "not run"


class Parity(Contract, table="parity", key=("claim", "figure")):
    """One published figure a row, with ours. A figure that was not run says what is missing."""

    family: str = column(isin=list(FAMILIES), description="What kind of number it is")
    claim: str = column(not_blank=True, description="Claim: figures that are recomputed together")
    figure: str = column(not_blank=True, description="Which number of it")
    what: str = column(not_blank=True, description="What is recomputed, in words")
    source: str = column(not_blank=True, description="Where the number was published")
    published: float = column(description="The number as printed")
    ours: float = column(nullable=True, description="What this code gives; null where it gives none")
    difference: float = column(nullable=True, description="ours - published")
    tolerance: float = column(ge=0.0, description="How far apart the two may be: what the printed digits leave open")
    status: str = column(
        isin=[REPRODUCED, DIFFERS, NOT_RUN], description="`differs` too where the code refused inputs that are there"
    )
    why: str = column(description="What is missing and how to supply it, why it was refused, or whence the tolerance")
