"""Table columns as arrays and back: null in a table is NaN in an array, here and nowhere else."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def to_array(column: pl.Series) -> Floats:
    """Float array of a column, shape [n]; null becomes NaN."""
    return column.cast(pl.Float64).fill_null(float("nan")).to_numpy()


def to_column(array: Floats) -> pl.Series:
    """Float column of an array of shape [n]; NaN becomes null."""
    return pl.Series(array, dtype=pl.Float64).fill_nan(None)
