"""Manifest of the report files that were written."""

from __future__ import annotations

import pandera.polars as pa

from schemas.contract import Contract


class Reports(Contract, table="reports", key=("file",)):
    """One written file a row: the page, its stills, and the tables behind the plots."""

    file: str = pa.Field(unique=True, description="Path below the table's folder")
    kind: str = pa.Field(isin=["page", "figure", "table"], description="What the file is")
    title: str = pa.Field(description="What it shows")
    sha256: str = pa.Field(description="Digest of the file")
    bytes: int = pa.Field(ge=0, description="Size")
