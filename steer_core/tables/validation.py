"""Check a frame against its contract and say what is wrong in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from schemas.contract import Contract
from steer_core.tables.errors import ContractError

if TYPE_CHECKING:
    import pandera.errors

#: Offending values shown for each broken rule.
SHOWN = 3


def check(frame: pl.DataFrame | pl.LazyFrame, contract: type[Contract], where: str = "") -> pl.DataFrame:
    """The frame, once it keeps the contract.

    Lazy frames are collected first: on a lazy frame pandera looks at the columns only, not at the values.

    Args:
        frame: rows to check.
        contract: the table's model.
        where: file or step that the rows came from, for the message.

    Raises:
        ContractError: names table, column, rule, number of rows and the first offenders.
    """
    rows = frame.collect() if isinstance(frame, pl.LazyFrame) else frame
    place = f" ({where})" if where else ""
    expected = contract.names()
    missing = [c for c in expected if c not in rows.columns]
    surplus = [c for c in rows.columns if c not in expected]
    if missing or surplus:
        parts = [f"missing column {', '.join(map(repr, missing))}"] if missing else []
        parts += [f"unknown column {', '.join(map(repr, surplus))}"] if surplus else []
        raise ContractError(
            f"table {contract.table()!r}{place}: {'; '.join(parts)}. Its columns are {', '.join(expected)}"
        )
    problems = [*_null_problems(rows, contract), *_float_problems(rows), *_key_problems(rows, contract)]
    if not problems:
        import pandera.errors

        try:
            contract.validate(rows, lazy=True)
        except pandera.errors.SchemaErrors as error:
            problems = _failure_cases(error, rows)
    if problems:
        listed = "\n  - ".join(problems)
        raise ContractError(f"table {contract.table()!r}{place} breaks its contract:\n  - {listed}")
    return rows


def _null_problems(rows: pl.DataFrame, contract: type[Contract]) -> list[str]:
    columns = contract.rules()
    return [
        f"column {name!r}: {n} null {'row' if n == 1 else 'rows'} (first at row {_first(rows[name].is_null())})"
        for name in rows.columns
        if not columns[name].nullable and (n := rows[name].null_count())
    ]


def _float_problems(rows: pl.DataFrame) -> list[str]:
    """NaN and infinity are never data: an undefined measure is null, with a state that says so."""
    problems = []
    for name, dtype in rows.schema.items():
        if dtype.is_float():
            bad = ~rows[name].is_finite().fill_null(True)
            if n := int(bad.sum()):
                problems.append(
                    f"column {name!r}: {n} NaN or infinite {'value' if n == 1 else 'values'} "
                    f"(first at row {_first(bad)}); write null where a measure is undefined"
                )
    return problems


def _key_problems(rows: pl.DataFrame, contract: type[Contract]) -> list[str]:
    if not contract.key() or not rows.height:
        return []
    repeated = rows.select(pl.struct(contract.key()).is_duplicated()).to_series()
    if not (n := int(repeated.sum())):
        return []
    shown = rows.filter(repeated).select(contract.key()).unique(maintain_order=True).head(SHOWN).rows()
    return [
        f"key ({', '.join(contract.key())}): {n} rows share a key (first at row {_first(repeated)}): "
        + ", ".join(map(repr, shown))
    ]


def _failure_cases(error: pandera.errors.SchemaErrors, rows: pl.DataFrame) -> list[str]:
    problems = []
    cases = pl.DataFrame(error.failure_cases)
    for (column, rule), group in cases.group_by(["column", "check"], maintain_order=True):
        indexed = "index" in group.columns and not group["index"].null_count()
        where = f" (first at row {group['index'][0]})" if indexed else ""
        shown = ", ".join(str(v)[:60] for v in group["failure_case"].head(SHOWN).to_list())
        is_dtype = str(rule).startswith("dtype") and column in rows.columns
        dtype = f"; it is {rows.schema[str(column)]}" if is_dtype else ""
        problems.append(f"column {column!r}: {rule}: {group.height} failing{where}: {shown}{dtype}")
    return problems


def _first(mask: pl.Series) -> int:
    return int(mask.arg_max() or 0)
