"""The asset check that every steered answer proves that it was steered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from steer_assets.tables import Science, Work
from steer_core.generation.receipts import check_receipts


def _receipts_hold(work: Work, frames: Mapping[str, pl.DataFrame]) -> tuple[bool, dict[str, Any]] | None:
    # the table of responses, whatever it is called
    rows = next(rows for rows in frames.values() if "receipt" in rows.columns)
    found = check_receipts(rows)
    return (found.ok, {"steered": found.steered, "with a receipt": found.receipts}) if found.steered else None


#: Every steered answer proves that it was steered, and no other does.
RECEIPTS = Science(
    "receipts",
    "Every steered response has a receipt whose observed tokens are the expected ones; no unsteered one has any",
    _receipts_hold,
)
