"""What answers cost, and of which that is not known here."""

from __future__ import annotations

import polars as pl


def cost_unknown() -> pl.Expr:
    """Whether an outcome was made elsewhere: nothing was asked for it here, and it is not the source given back.

    What it took is not known then, and no 0.
    """
    return (pl.col("n_calls") == 0) & ~pl.col("copied")
