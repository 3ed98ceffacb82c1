"""Which strength: the strongest under a budget, and the best on half of the items with what it is on the other half."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from steer_core.evaluation.profiles.changes import Allowed, strongest_within
from steer_core.evaluation.profiles.halves import chosen_on_half
from steer_core.evaluation.profiles.kind import capability_of_bench, load_kind, metrics_of
from steer_core.reports.inputs import CellTables
from steer_core.reports.numbers import number, plural, signed, span
from steer_core.reports.profile_plots import asked_words
from steer_core.tables.errors import SteerworksError


def allowed(tables: CellTables, arms: pl.DataFrame, values: pl.DataFrame, items: pl.DataFrame) -> Iterator[str]:
    """What the budget allows on each axis and side of 0."""
    capability = capability_of_bench(tables.profile_specs, tables.budget)
    if tables.budget is None or capability is None:
        return
    profile, metric, better = capability
    for head, axis, positions in _strengths(arms):
        try:
            found = strongest_within(
                values, items, positions, profile=profile, metric=metric, budget=tables.budget.most, better=better
            )
        except SteerworksError as error:
            yield f"{head}: the budget cannot be held: {error}."
            continue
        yield f"{head}: {_budget_words(found, metric, profile, axis)}"


def _strengths(arms: pl.DataFrame) -> Iterator[tuple[str, str, dict[str, float]]]:
    """What is asked in words, the axis, and arm -> strength on each side of it."""
    # at 0 on its axis a part does nothing: there is no strength to be borne or chosen
    placed = arms.filter(pl.col("position") != 0.0).with_columns(side=pl.col("position").sign())
    for (asked, axis, _), group in placed.group_by("asked", "axis", "side", maintain_order=True):
        yield asked_words(str(asked)), str(axis), dict(group.select("arm_id", "position").iter_rows())


def chosen(tables: CellTables, arms: pl.DataFrame, values: pl.DataFrame, items: pl.DataFrame) -> Iterator[str]:
    """The strength that is best on half of a profile's items, and what it comes to on the other half."""
    for name, spec in tables.profile_specs.items():
        metric = getattr(load_kind(spec), "CHOSEN_BY", None)
        if metric is None:
            continue
        for head, axis, positions in _strengths(arms):
            if len(positions) < 2:
                continue
            found = chosen_on_half(
                values, items, positions, profile=name, metric=metric, better=metrics_of(spec)[metric].better
            )
            said = f"{head}: {metric} of {name}"
            if found is None:
                yield f"{said}: no strength has a value on both halves of the items."
                continue
            held, more = found.held_out, found.difference
            beside = (
                ""
                if more.value is None
                else (f"; less that of the model as it is {signed(more.value)} {span(more.low, more.high)}")
            )
            strength = f"of {plural(len(positions), 'strength')} {signed(positions[found.arm_id])} on {axis}"
            yield (
                f"{said}: {strength} is best on half of the items ({number(found.choosing)}, which choosing made too "
                "good); on the other half it is "
                f"{number(held.value)} {span(held.low, held.high)} over {plural(held.n, 'item')}{beside}."
            )


def _budget_words(found: Allowed, metric: str, profile: str, axis: str) -> str:
    said = f"a loss of {number(found.budget, 3)} in {metric.replace('_', ' ')} of {profile}"
    last = found.looked_at[-1]
    if found.arm_id is None and last.most is None:
        return f"whether any setting stays below {said} is not known: {signed(last.position)} has no value."
    if found.arm_id is None:
        return (
            f"no setting is known to stay below {said}: already the weakest, {signed(last.position)}, may lose up to "
            f"{number(last.most, 3)} (95 % confidence)."
        )
    chosen = next(one for one in found.looked_at if one.arm_id == found.arm_id)
    text = (
        f"the strongest setting known to stay below {said} is {signed(chosen.position)} on {axis}: it loses "
        f"{number(chosen.loss, 3)}, at most {number(chosen.most, 3)} (95 % confidence)"
    )
    if last.most is None:
        return f"{text}; {signed(last.position)} has no value."
    if not last.within:
        return f"{text}; {signed(last.position)} may lose up to {number(last.most, 3)}."
    return f"{text}; no stronger one was measured."
