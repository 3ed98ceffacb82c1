"""Contract of what the steps of runs took."""

from __future__ import annotations

import polars as pl

from schemas.contract import Contract, column


class RunFigures(Contract, table="run_figures", key=("run", "step", "cell", "began"), version=2):
    """One step of one run that had something to do: a journal, to which each adds a row when its tables stand."""

    run: str = column(description="Run of Dagster; empty outside of one")
    step: str = column(description="Declared table, or the first of several that one body writes")
    cell: str = column(description="`method|model`; empty for what all cells share")
    machine: str = column(description="Name of the machine")
    began: float = column(ge=0.0, description="When its work began, in seconds since 1970")
    seconds: float = column(ge=0.0, description="From there until its tables stood")
    waited: float = column(ge=0.0, description="Seconds before, for another process that made the same table")
    rows: int = column(ge=0, description="Rows of its tables")
    answers: int = column(ge=0, description="Answers that a model wrote for it; without those that the journal had")
    prompt_tokens: int = column(ge=0, description="Tokens of their prompts")
    new_tokens: int = column(ge=0, description="Tokens written")
    busy: float = column(ge=0.0, description="Seconds in which an engine was at work on them")
    queued: float = column(
        nullable=True,
        ge=0.0,
        description="Seconds that its run waited in Dagster's queue; null outside of a run, and of version 1",
    )
    paid: float = column(
        ge=0.0, description="Money that endpoints took meanwhile, at the prices that are known; 0 in version 1"
    )
    currency: str = column(description="Of `paid`; empty where nothing was paid; several are joined by `+`")

    @classmethod
    def migrate(cls, rows: pl.DataFrame, version: int) -> pl.DataFrame | None:
        """Version 1 knew neither queue nor money."""
        if version != 1:
            return None
        new = {"queued": pl.lit(None, pl.Float64), "paid": pl.lit(0.0), "currency": pl.lit("")}
        return rows.with_columns(value.alias(name) for name, value in new.items())
