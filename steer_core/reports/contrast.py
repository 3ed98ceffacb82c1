"""A cell against its controls: the rows of `comparisons`, judged by their intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

#: `same`: the interval of the difference includes 0.
Verdict = Literal["better", "worse", "same", "unknown"]

#: control -> what it stands for, in a sentence.
CONTROL_NAMES = {
    "copy": "doing nothing",
    "rewrite": "an unsteered rewrite",
    "permuted": "its own outputs against the other requests on their texts",
}


@dataclass(frozen=True)
class Contrast:
    """The cell against one control: a row of `schemas.Comparisons`, judged.

    `share` is the cell's error as a share of the control's; its interval is the interval of the paired difference
    divided by the control's mean. `p` is the rank of the real pairing among shuffled ones, of `permuted` only.
    """

    control: str
    name: str
    reading: str
    verdict: Verdict
    value: float | None
    control_value: float | None
    difference: float | None
    low: float | None
    high: float | None
    share: float | None
    share_low: float | None
    share_high: float | None
    share_better: float | None
    n: int
    n_clusters: int
    p: float | None = None


def contrasts(comparisons: pl.DataFrame, measure: str = "error") -> tuple[Contrast, ...]:
    """The comparisons of one probe on one measure, complete cases first, judged by their intervals.

    Args:
        comparisons: rows of `schemas.Comparisons`, of one probe.
        measure: column of `schemas.Steerability`; lower is better.
    """
    rows = comparisons.filter(pl.col("measure") == measure)
    # other cells may be passed as controls too: they come after the three that every cell has
    controls = list(dict.fromkeys([*CONTROL_NAMES, *rows["control"].sort()]))
    order = [(reading, control) for reading in ("complete", "worst") for control in controls]
    found = [
        _contrast(row)
        for reading, control in order
        for row in rows.filter(pl.col("reading") == reading, pl.col("control") == control).iter_rows(named=True)
    ]
    return tuple(found)


def _contrast(row: dict[str, Any]) -> Contrast:
    base, low, high = row["control_value"], row["low"], row["high"]
    if row["difference"] is None or low is None or high is None:
        verdict: Verdict = "unknown"
    else:
        verdict = "better" if high < 0 else "worse" if low > 0 else "same"
    scaled = base is not None and base > 0

    def share(difference: float | None) -> float | None:
        return (base + difference) / base if scaled and difference is not None else None

    return Contrast(
        control=row["control"],
        name=CONTROL_NAMES.get(row["control"], row["control"]),
        reading=row["reading"],
        verdict=verdict,
        value=row["value"],
        control_value=base,
        difference=row["difference"],
        low=low,
        high=high,
        share=share(row["difference"]),
        share_low=share(low),
        share_high=share(high),
        share_better=row["share_better"],
        n=row["n"],
        n_clusters=row["n_clusters"],
        p=row["p"],
    )
