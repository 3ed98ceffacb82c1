"""Manifest of the report files that were written."""

from __future__ import annotations

from schemas.contract import Contract, column


class Reports(Contract, table="reports", key=("file",)):
    """One written file a row: the page, its stills, and the tables behind the plots."""

    file: str = column(unique=True, description="Path below the table's folder")
    kind: str = column(isin=["page", "figure", "table"], description="What the file is")
    title: str = column(description="What it shows")
    sha256: str = column(description="Digest of the file")
    bytes: int = column(ge=0, description="Size")
