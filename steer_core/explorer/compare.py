"""Cells beside each other on the same requests: what each made of them, and the difference with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from schemas.evaluation import HEADLINE
from steer_core.explorer.index import Index
from steer_core.statistics.paired import PairedContrast, paired_contrast
from steer_core.tables.errors import ConfigError

#: Cells that are compared.
FEWEST, MOST = 2, 6
#: Measures that may be compared, with whether less is better.
MEASURES = {
    "error_worst": True,
    "error": True,
    "orthogonality": True,
    "miscalibration": True,
    "meaning_content": False,
    "meaning_chrf": False,
    "completion_tokens": True,
}


@dataclass(frozen=True)
class Compared:
    """Cells on the requests that all of them have answered.

    Attributes:
        cells: `method|model`; the first is what the others are held against.
        measure: what is compared.
        less_is_better: of the measure.
        contrasts: each further cell against the first, paired by request, interval clustered by source text.
        rows: requests: `number`, a column of the measure for each cell (`0`, `1` ...), `difference`, and `place` in
            the order shown.
        sides: whose difference to whom it is.
        winner: whose requests these are; empty: all.
        wins: cell by cell, requests on which it is strictly best.
        ties: requests on which nobody is.
        left_out: requests that not all cells have a value for.
    """

    cells: tuple[str, ...]
    measure: str
    less_is_better: bool
    contrasts: tuple[PairedContrast, ...]
    rows: pl.DataFrame
    sides: tuple[str, str]
    winner: str
    wins: tuple[int, ...]
    ties: int
    left_out: int


def compare(
    index: Index, cells: Sequence[str], *, probe: str = "", measure: str = "error_worst", winner: str = ""
) -> Compared:
    """Compare cells, headline arms, on one measure.

    Args:
        index: of the bench's samples.
        cells: two to six.
        probe: of whose requests; empty: all that measure cells.
        measure: a key of `MEASURES`.
        winner: only requests on which this cell is strictly best; empty: all.

    Raises:
        ConfigError: too few or too many cells, or unknown ones.
    """
    samples = index.samples()
    known = set(samples["cell"].dtype.categories)  # type: ignore[attr-defined]
    cells = tuple(dict.fromkeys(cells))
    if odd := [c for c in (*cells, *([winner] if winner else [])) if c not in known]:
        raise ConfigError(f"cell {odd[0]!r} has no scores; there are {', '.join(sorted(known)) or 'none'}")
    # a form whose winner was unticked still names it
    winner = winner if winner in cells else ""
    if not FEWEST <= len(cells) <= MOST:
        raise ConfigError(f"{FEWEST} to {MOST} cells are compared; these are {len(cells)}")
    if measure not in MEASURES:
        raise ConfigError(f"measure={measure!r}: it takes {', '.join(MEASURES)}")
    wanted = (pl.col("arm") == HEADLINE) & ((pl.col("probe") == probe) if probe else pl.lit(value=True))
    whole: pl.DataFrame | None = None
    for n, cell in enumerate(cells):
        own = samples.filter(wanted, pl.col("cell") == cell).select("number", pl.col(measure).alias(str(n)))
        whole = own if whole is None else whole.join(own, on="number", how="full", coalesce=True)
    assert whole is not None
    names = [str(n) for n in range(len(cells))]
    rows = whole.drop_nulls()
    texts = index.asked().texts.gather(rows["number"]).to_numpy()
    values = rows.select(names).cast(pl.Float64).to_numpy()
    less = MEASURES[measure]
    contrasts = tuple(paired_contrast(values[:, n], values[:, 0], texts) for n in range(1, len(cells)))
    best = np.min(values, axis=1, keepdims=True) if less else np.max(values, axis=1, keepdims=True)
    first = values == best if values.size else np.zeros_like(values, dtype=bool)
    alone = first.sum(axis=1) == 1
    wins = tuple(int((first[:, n] & alone).sum()) for n in range(len(cells)))
    told = names[cells.index(winner)] if winner in cells else names[-1]
    other = "0" if told != "0" else names[1]
    rows = rows.with_columns(difference=pl.col(told).cast(pl.Float64) - pl.col(other).cast(pl.Float64))
    if winner:
        rows = rows.filter(pl.Series(first[:, cells.index(winner)] & alone))
    # what the cell that is looked at does best on comes first
    rows = rows.sort("difference", "number", descending=[not less, False])
    return Compared(
        cells,
        measure,
        less,
        contrasts,
        rows.with_row_index("place"),
        (cells[int(told)], cells[int(other)]),
        winner,
        wins,
        int((~alone).sum()),
        whole.height - len(texts),
    )
