"""A table in a terminal."""

from __future__ import annotations

import polars as pl


def print_table(rows: pl.DataFrame) -> None:
    """A table to read: numbers to the right, words to the left, what is not known as a dash."""
    numeric = [t.is_numeric() for t in rows.dtypes]
    lines = [rows.columns, *([_shown(v) for v in r] for r in rows.iter_rows())]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = zip(line, widths, numeric, strict=True)
        print("  ".join(v.rjust(w) if n else v.ljust(w) for v, w, n in cells).rstrip())


def _shown(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:,.1f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
