"""Contracts as Dagster sees them."""

from __future__ import annotations

import dagster as dg

from schemas.contract import Contract


def table_schema(contract: type[Contract]) -> dg.TableSchema:
    """Columns with type, description and rules, and the key of the table."""
    columns = [
        dg.TableColumn(
            name,
            str(dtype),
            contract.rules()[name].description,
            dg.TableColumnConstraints(
                nullable=contract.rules()[name].nullable,
                unique=contract.rules()[name].unique,
                other=contract.rules()[name].in_words(),
            ),
        )
        for name, dtype in contract.dtypes().items()
    ]
    return dg.TableSchema(columns, dg.TableConstraints([f"unique({', '.join(contract.key())})"]))


def definition_metadata(contract: type[Contract]) -> dict[str, object]:
    """Metadata of an asset that holds this table."""
    return {
        "contract": f"{contract.table()} v{contract.version()}",
        "dagster/column_schema": table_schema(contract),
    }
