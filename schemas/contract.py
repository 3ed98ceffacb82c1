"""What every table contract shares: strictness, a name, a version, and a key."""

from __future__ import annotations

from typing import Any

import pandera.polars as pa
import polars as pl

#: table name -> model, filled as the contract modules are imported.
CONTRACTS: dict[str, type[Contract]] = {}


class Contract(pa.DataFrameModel):
    """Base of all tables: columns exactly as declared, in order, without coercion.

    A subclass says in its class line which table it is:
    `class GoalValues(Contract, table="goal_values", key=("text_id", "scorer_id"), version=2)`.
    `key` lists the columns that identify a row (checked to be unique); `version` is raised on every change of the
    columns or of their meaning.
    """

    # pandera takes every public attribute for a column, hence underscores and class methods
    _table: str = ""
    _version: int = 1
    _key: tuple[str, ...] = ()

    class Config:
        """Columns exactly as declared, in order, without coercion."""

        strict = True
        ordered = True
        coerce = False

    def __init_subclass__(cls, *, table: str, key: tuple[str, ...], version: int = 1, **kwargs: Any) -> None:
        cls._table, cls._key, cls._version = table, key, version
        super().__init_subclass__(**kwargs)  # type: ignore[no-untyped-call]
        CONTRACTS[table] = cls

    @classmethod
    def table(cls) -> str:
        """Name of the table: its folder and its entry in `CONTRACTS`."""
        return cls._table

    @classmethod
    def key(cls) -> tuple[str, ...]:
        """Columns that identify a row."""
        return cls._key

    @classmethod
    def version(cls) -> int:
        """Version of the contract."""
        return cls._version

    @classmethod
    def migrate(cls, rows: pl.DataFrame, version: int) -> pl.DataFrame | None:
        """Rows of an older version as rows of this one; None where that version cannot be read any more."""
        return None
