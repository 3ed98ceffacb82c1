"""What the page knows against its own claims, to stand beside them on the first screen."""

from __future__ import annotations

import polars as pl

from steer_core.evaluation.behaviors.side_effects import JUDGED
from steer_core.reports.inputs import CellTables, filled
from steer_core.reports.numbers import number, p_value, percent, plural, span
from steer_core.reports.sections import fitted_caveats
from steer_core.reports.sweeps import Sweep
from steer_core.statistics import LEVEL, least_controls

#: Share of answers that failed, or were cut off, from which it is said first.
MANY = 0.05
#: Share of a judge's scale beyond which the unsteered model stands near its end.
NEAR_END = 0.25
#: AUROC of a judge that grades at random.
CHANCE = 0.5


def cell_caveats(tables: CellTables) -> tuple[str, ...]:
    """Of the requests: failures, and what the fits know against what is said of the goals."""
    return (*_failures(tables), *fitted_caveats(tables, tables.axes))


def sweep_caveats(tables: CellTables, sweep: Sweep) -> tuple[str, ...]:
    """Of one behavior: no direction, random ones do as much, the scale's end, answers that were cut off."""
    if sweep.layers is None or sweep.measure is None:
        return ()
    return (
        *_judge(tables, sweep),
        *fitted_caveats(tables, [sweep.behavior]),
        *_like_random(sweep),
        *_scale_end(sweep),
        *_cut_off(sweep),
    )


def _failures(tables: CellTables) -> list[str]:
    rows = tables.steerability
    failed = rows.filter(pl.col("failure").is_not_null())
    if rows.is_empty() or failed.height < MANY * rows.height:
        return []
    kinds = failed.group_by("failure").len().sort("len", "failure", descending=[True, False])
    return [f"{plural(n, 'answer')} of {rows.height:,} {_FAILED.get(kind, kind)}." for kind, n in kinds.iter_rows()]


_FAILED = {
    "empty": "are empty",
    "truncated": "were cut off at the token limit",
    "overlong": "had no room in the model's context",
    "unparsable": "lack the form that the method asked for",
    "refused": "are refusals",
    "filtered": "were held back by the endpoint's filter",
    "undefined": "have no value on a goal",
}


def _judge(tables: CellTables, sweep: Sweep) -> list[str]:
    """A judge that cannot tell answers of known label apart says nothing of any other answers."""
    known = filled(tables.judge_calibration)
    rows = None if known is None else known.filter(pl.col("behavior") == sweep.behavior)
    if rows is None or rows.is_empty() or sweep.measure != JUDGED:
        return []
    row = rows.row(0, named=True)
    figures = f"AUROC {number(row['auroc'])} {span(row['low'], row['high'])}, {plural(row['n'], 'answer')}"
    if row["low"] is not None and row["low"] > CHANCE:
        return []
    if row["high"] is not None and row["high"] < CHANCE:
        return [f"The judge grades answers of known label the wrong way round ({figures}): its verdicts mislead."]
    return [
        f"The judge cannot be told from chance on answers of known label ({figures}): its verdicts say nothing, and "
        "neither does what rests on them."
    ]


def _like_random(sweep: Sweep) -> list[str]:
    said = []
    for end, words in (("low", "lowest"), ("high", "highest")):
        found = sweep.found(f"p_random_{end}")
        if (
            found is not None
            and found["value"] is not None
            and found["n"] >= least_controls()
            and found["value"] > LEVEL
        ):
            said.append(
                f"At its {words} strength it cannot be told from random directions of equal size (rank p = "
                f"{p_value(found['value'])})."
            )
    return said


def _scale_end(sweep: Sweep) -> list[str]:
    off = sweep.unsteered(JUDGED)
    if sweep.measure != JUDGED or sweep.scale is None or off is None or off["mean"] is None:
        return []
    low, high = sweep.scale
    reach = NEAR_END * (high - low)
    digits = sweep.digits(JUDGED)
    for end, room, way in ((high, high - off["mean"], "rise"), (low, off["mean"] - low, "fall")):
        if room <= reach:
            return [
                f"It starts at {number(off['mean'], digits)}, near the end of the scale at {number(end, 0)}: it can "
                f"{way} by {number(room, digits)} at most."
            ]
    return []


def _cut_off(sweep: Sweep) -> list[str]:
    cut = sweep.curve("truncated")["mean"].drop_nulls()
    off = sweep.unsteered("truncated")
    share = float(cut.to_numpy().mean()) if len(cut) else 0.0
    if share < MANY:
        return []
    beside = f", {percent(off['mean'])} unsteered" if off and off["mean"] is not None else ""
    return [f"{percent(share)} of its answers were cut off at the token limit{beside}: verdicts are on beginnings."]
