"""Arms in figures: means with intervals clustered by item, and the paired difference to the unsteered arm.

A missing value (not parsed, no answer, undefined) is left out of the mean and counted in `missing`; it is never 0.
"""

from __future__ import annotations

import polars as pl

from schemas.sweeps import ArmSummary
from steer_core.evaluation.behaviors.findings import find
from steer_core.evaluation.columns import to_array
from steer_core.statistics import clustered_mean, paired_contrast
from steer_core.tables.errors import SteerworksError

#: Bumped when the same scores give other figures.
VERSION = "4"
_KEY = ["item_id", "sample_index"]
_COPIED = ["arm_id", "behavior", "role", "strength", "unit", "layers", "positions", "seed"]


def summarise_arms(
    arms: pl.DataFrame, scores: pl.DataFrame, *, draws: int, seed: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Summaries of the arms, and what the sweep says as a whole.

    Args:
        arms: rows of `sweep_arms`; each behavior with its unsteered arm.
        scores: rows of `arm_scores`, all measures together (verdicts by `side_effects.judged_scores`).
        draws: bootstrap resamples of the rank correlations.
        seed: seed of the resamples.

    Returns:
        Rows of `arm_summary` (differences are null for the unsteered arm itself) and of `sweep_findings`.

    Raises:
        SteerworksError: a behavior has no unsteered arm, or scores belong to no arm.
    """
    off = unsteered_arms(arms)
    if strangers := sorted(set(scores["arm_id"]) - set(arms["arm_id"])):
        raise SteerworksError(
            f"{len(strangers)} arms have scores and are not in the table of arms (first: {strangers[0]}): pass the "
            "arms that were planned with these scores"
        )
    columns = {row["arm_id"]: {c: row[c] for c in _COPIED} for row in arms.iter_rows(named=True)}
    parts = scores.partition_by(["arm_id", "group", "measure"], as_dict=True, maintain_order=True)
    order = {a: i for i, a in enumerate(arms["arm_id"])}
    rows = []
    for (arm_id, group, measure), part in sorted(parts.items(), key=lambda p: (order[str(p[0][0])], *map(str, p[0]))):
        arm = columns[str(arm_id)]
        control = parts.get((off[arm["behavior"]], group, measure))
        rows.append({**arm, "group": group, "measure": measure, **_figures(arm, part, control)})
    summary = pl.DataFrame(rows, schema=ArmSummary.empty().schema, orient="row")
    return summary, find(arms, scores, off, draws=draws, seed=seed)


def unsteered_arms(arms: pl.DataFrame) -> dict[str, str]:
    """Behavior -> id of its unsteered arm.

    Raises:
        SteerworksError: a behavior has none, or several.
    """
    off = arms.filter(pl.col("role") == "off")
    for behavior in arms["behavior"].unique().sort():
        n = off.filter(pl.col("behavior") == behavior).height
        if n != 1:
            raise SteerworksError(
                f"behavior {behavior!r} has {n} unsteered arms and needs one, for everything is compared with it: pass "
                "all planned arms, not the missing ones alone"
            )
    return dict(off.select("behavior", "arm_id").iter_rows())


def _figures(arm: dict[str, object], part: pl.DataFrame, control: pl.DataFrame | None) -> dict[str, object]:
    values = to_array(part["value"])
    found = clustered_mean(values, part["item_id"].to_numpy())
    difference = low = high = None
    if control is not None and arm["role"] != "off":
        paired = part.join(control.select(*_KEY, control="value"), on=_KEY, how="inner", maintain_order="left")
        contrast = paired_contrast(
            to_array(paired["value"]),
            to_array(paired["control"]),
            paired["item_id"].to_numpy(),
        )
        difference, low, high = contrast.difference, contrast.low, contrast.high
    return {
        "mean": found.value,
        "low": found.low,
        "high": found.high,
        "difference": difference,
        "difference_low": low,
        "difference_high": high,
        "missing": part["value"].null_count() / part.height,
        "n": found.n,
        "n_clusters": found.n_clusters,
    }
