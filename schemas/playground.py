"""Contract of what people tried by hand."""

from __future__ import annotations

from schemas.contract import Contract, column


class Tried(Contract, table="tried", key=("tried_id",)):
    """One answer in the playground: a journal, to which each adds a row."""

    tried_id: str = column(unique=True, description="Content hash of the other columns")
    at: float = column(ge=0.0, description="When, in seconds since 1970")
    cell: str = column(description="`method|model`")
    kind: str = column(
        isin=["targets", "strength"],
        description="`targets`: a rewrite towards targets by the cell's method; `strength`: an answer under its vector",
    )
    text: str = column(not_blank=True, description="What was written: the source of a rewrite, or a prompt")
    targets: str = column(description="Goal -> z*, as JSON; {} where nothing was asked")
    concept: str = column(description="Concept of the vector; empty for `targets`")
    strength: float = column(nullable=True, description="Strength of the vector in its unit; null: unsteered")
    response_id: str = column(description="Response, in the journal of the playground; empty where no model was asked")
    answer: str = column(description="What came back, cleaned")
    failure: str = column(nullable=True, description="Why it is no answer; null where it is one")
    z0: str = column(description="Where the text is in goal space, goal -> z, as JSON; null where undefined")
    z_hat: str = column(description="Where the answer is, likewise")
    error: float = column(nullable=True, ge=0.0, description="|z* - zh| over all goals; null where one is undefined")
    completion_tokens: int = column(ge=0, description="Tokens written, all attempts")
    seconds: float = column(ge=0.0, description="Until it was there, loading of weights included")
