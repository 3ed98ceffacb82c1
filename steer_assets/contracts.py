"""Contracts as Dagster sees them: the only place where pandera meets Dagster."""

from __future__ import annotations

import dagster as dg

from schemas.contract import Contract


def table_schema(contract: type[Contract]) -> dg.TableSchema:
    """Columns with type, description and rules, and the key of the table."""
    schema = contract.to_schema()
    columns = [
        dg.TableColumn(
            name,
            str(column.dtype),
            column.description,
            dg.TableColumnConstraints(
                nullable=column.nullable,
                unique=column.unique,
                other=[str(c.error or c.name) for c in column.checks],
            ),
        )
        for name, column in schema.columns.items()
    ]
    return dg.TableSchema(columns, dg.TableConstraints([f"unique({', '.join(contract.key())})"]))


def definition_metadata(contract: type[Contract]) -> dict[str, object]:
    """Metadata of an asset that holds this table."""
    return {
        "contract": f"{contract.table()} v{contract.version()}",
        "dagster/column_schema": table_schema(contract),
    }
