"""Trials of a search: what was tried, what it came to on the items that are chosen by, and what it cost."""

from __future__ import annotations

from schemas.contract import Contract, column


class Trials(Contract, table="trials", key=("study", "number")):
    """A trial of a study, as it ended: the journal that a search goes on from, whatever ended the run."""

    study: str = column(description="Digest of space, objectives, sampler, seed and what is measured")
    number: int = column(ge=0, description="0-based, in the order in which they were proposed")
    params: str = column(description="What was tried, as JSON: parameter -> value")
    state: str = column(
        isin=["complete", "pruned", "failed"],
        description="`pruned`: ended early, hopeless; `failed`: it could not be run",
    )
    values: str = column(
        description="What it came to, as JSON: objective -> mean over the items seen; {} where it failed"
    )
    reports: str = column(description="Means after each stretch of items, as JSON: items seen -> first objective")
    items: int = column(ge=0, description="Items that it was measured on")
    answers: int = column(ge=0, description="Answers that were asked for: what it cost")
    note: str = column(description="Why it failed; may be empty")
