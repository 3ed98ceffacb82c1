"""What the page says of profiles: what the model is like apart from the requests, as it is and steered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from schemas.profiles import PLAIN
from steer_core.evaluation.profiles.changes import can_stand
from steer_core.evaluation.profiles.kind import capability_of_bench, shown
from steer_core.reports.beside import Beside, beside
from steer_core.reports.drawing import Figure
from steer_core.reports.inputs import CellTables, filled
from steer_core.reports.numbers import listed, plural, signed
from steer_core.reports.profile_plots import PANELS, changes_figure, cost_figure, reliability_figure
from steer_core.reports.sections import Section
from steer_core.reports.strengths import allowed, chosen
from steer_core.reports.sweeps import Sweep

#: Settings that get a column of their own in the tables of figures.
COLUMNS = 7
#: Roles of the settings that steering is used in: each is told of in a sentence.
USED = ("request", "behavior", "pair")


@dataclass(frozen=True)
class ProfileTable:
    """Figures of one profile, setting by setting.

    Attributes:
        name: of the profile.
        description: in the configuration's words.
        kind: of it.
        at_once: rows that are shown at once: `what`, `setting`, `cells` (a figure an arm), `why`.
        more: further rows.
        figure: name of its reliability diagram; empty where it has none.
    """

    name: str
    description: str
    kind: str
    at_once: tuple[dict[str, Any], ...]
    more: tuple[dict[str, Any], ...]
    figure: str


@dataclass(frozen=True)
class ProfilesSection:
    """Profiles on the page.

    Attributes:
        sentences: what differs, setting by setting; each claim is corrected for all that the page looks at.
        together: two vectors at once against each alone, in sentences; empty where no pair was profiled.
        allowed: what a budget allows, in sentences.
        chosen: the best strength on half of the items and what it comes to on the other, in sentences.
        arms: the settings with a column: `label`, `said` (what stands in front of every prompt).
        left_out: labels of the settings without one.
        stands: changes that stand among all, largest first.
        n_tests: how many were looked at.
        tables: a profile each.
        missing: what has no value, and why.
        figures: names of what is drawn over all profiles.
        undrawn: what the plot of changes leaves out, as a sentence; empty where it leaves out nothing.
        beside: the cell beside the controls that were asked for the same; None where there is none.
    """

    sentences: tuple[str, ...]
    together: tuple[str, ...]
    allowed: tuple[str, ...]
    chosen: tuple[str, ...]
    arms: tuple[dict[str, Any], ...]
    left_out: tuple[str, ...]
    stands: tuple[dict[str, Any], ...]
    n_tests: int
    tables: tuple[ProfileTable, ...]
    missing: tuple[str, ...]
    figures: tuple[str, ...]
    undrawn: str
    beside: Beside | None


def sections(tables: CellTables, swept: Sequence[Sweep]) -> list[Section]:
    """The section; none where the cell has no profile."""
    found = {name: filled(rows) for name, rows in tables.profiles.items()}
    arms, figures = found.get("profile_arms"), found.get("profile_figures")
    values, items = found.get("profile_values"), tables.profiles.get("profile_items")
    if arms is None or figures is None or values is None or items is None:
        return []
    # what has no pair, or no value on a side, is no comparison; what is missing is listed below
    changes = tables.profiles["profile_changes"].filter(pl.col("p").is_not_null())
    rows = arms.to_dicts()
    used = [r for r in rows if r["role"] in USED]
    drawn: list[Figure] = [changes_figure(used, changes)] if changes.height else []
    capability = capability_of_bench(tables.profile_specs, tables.budget)
    if capability is not None:
        most = tables.budget.most if tables.budget is not None else None
        cost = cost_figure(arms, changes, *capability, budget=most)
        drawn += [cost] if cost is not None else []
    of_profiles, reliability = [], []
    shown_arms = [r for r in rows if r["arm_id"] == PLAIN] + used
    for name, spec in tables.profile_specs.items():
        own = figures.filter(pl.col("profile") == name)
        diagram = reliability_figure(name, values, items, shown_arms)
        reliability += [diagram] if diagram is not None else []
        lines = list(_lines(own, _columns(rows)))
        of_profiles.append(
            ProfileTable(
                name,
                spec.description,
                spec.kind,
                tuple(line for line in lines if shown(spec, line["row"])),
                tuple(line for line in lines if not shown(spec, line["row"])),
                diagram.name if diagram is not None else "",
            )
        )
    contrasts, of_controls = _beside(tables, rows)
    content = ProfilesSection(
        sentences=tuple(_sentences(rows, changes)),
        together=tuple(_together(rows, tables.profiles.get("profile_synergy"))),
        allowed=tuple(allowed(tables, arms, values, items)),
        chosen=tuple(chosen(tables, arms, values, items)),
        arms=tuple({"label": r["label"], "said": r["system"]} for r in _columns(rows)),
        left_out=tuple(r["label"] for r in rows if r not in _columns(rows)),
        stands=tuple(_stands(rows, changes)),
        n_tests=changes.height,
        tables=tuple(of_profiles),
        missing=tuple(_missing(values)),
        figures=tuple(f.name for f in drawn),
        undrawn=_undrawn(used, changes),
        beside=contrasts,
    )
    every = (*drawn, *of_controls, *reliability)
    return [Section("profiles.html.jinja", content, (("profiles", "Profiles"),), every)]


def _beside(tables: CellTables, arms: Sequence[Mapping[str, Any]]) -> tuple[Beside | None, tuple[Figure, ...]]:
    """The cell beside its controls, where it was asked for something."""
    rows = tables.profiles.get("profile_contrasts")
    if rows is None or not any(r["role"] == "request" for r in arms):
        return None, ()
    return beside(rows, sorted(tables.control_steerability), "profile_beside")


def _undrawn(used: Sequence[Mapping[str, Any]], changes: pl.DataFrame) -> str:
    """Differences that stand and are not in the plot, and settings without a panel."""
    flat = changes.filter("different", pl.col("effect_size").is_null()).height
    said = [f"{plural(flat, 'difference')} without a spread to measure by" if flat else ""]
    said.append(plural(len(used) - PANELS, "further setting") if len(used) > PANELS else "")
    left = [s for s in said if s]
    return f"Not drawn: {listed(left)}; the tables have them." if left else ""


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Settings with a column of their own: the model as it is, the method as it is used, and some further ones."""
    order = {PLAIN: 0, "request": 1, "behavior": 2, "pair": 3, "arm": 4}
    return sorted(rows, key=lambda r: order[r["role"]])[:COLUMNS]


def _sentences(rows: Sequence[Mapping[str, Any]], changes: pl.DataFrame) -> Iterator[str]:
    """How much differs in each setting as the method is used."""
    if len(rows) == 1:
        yield "Only the model as it is was profiled: without a text to rewrite this method says and does nothing."
        return
    able = changes.height and can_stand(changes.height, int(changes["n_clusters"].max()))  # type: ignore[arg-type]
    for row in rows:
        if row["role"] not in USED:
            continue
        own = changes.filter(pl.col("arm_id") == row["arm_id"])
        stands = own.filter("different").sort("p_adjusted", pl.col("effect_size").abs(), descending=[False, True])
        head = f"{row['label']}: "
        if not own.height:
            yield f"{head}nothing could be compared with the model as it is; what is missing is listed below."
            continue
        if not stands.height:
            few = "" if able else ": among so many, these items are too few for any to be"
            yield f"{head}none of {own.height} figures can be told apart from the model as it is{few}."
            continue
        named = [
            f"{r['metric'].replace('_', ' ')} ({r['profile']}) {signed(r['difference'])}"
            for r in stands.head(3).iter_rows(named=True)
        ]
        more = f" and {stands.height - 3} more" if stands.height > 3 else ""
        verb = "differs" if stands.height == 1 else "differ"
        yield f"{head}{stands.height} of {own.height} figures {verb} from the model as it is: {listed(named)}{more}."


def _together(rows: Sequence[Mapping[str, Any]], synergy: pl.DataFrame | None) -> Iterator[str]:
    """What each pair of vectors does beyond the sum of both."""
    if synergy is None:
        return
    synergy = synergy.filter(pl.col("p").is_not_null())
    labels = {r["arm_id"]: r["label"] for r in rows}
    for (arm,), own in synergy.group_by("arm_id", maintain_order=True):
        stands = own.filter("different").sort("p_adjusted", pl.col("synergy").abs(), descending=[False, True])
        head = f"{labels.get(str(arm), str(arm))}: "
        if not stands.height:
            yield f"{head}none of {own.height} effects can be told apart from the sum of the two alone."
            continue
        named = [
            f"{r['metric'].replace('_', ' ')} ({r['profile']}) {signed(r['both'])}, alone {signed(r['first'])} and "
            f"{signed(r['second'])}"
            for r in stands.head(3).iter_rows(named=True)
        ]
        more = f" and {stands.height - 3} more" if stands.height > 3 else ""
        verb = "differs" if stands.height == 1 else "differ"
        said = f"{stands.height} of {own.height} effects {verb} from the sum of the two alone"
        yield f"{head}{said}: {'; '.join(named)}{more}."


def _stands(rows: Sequence[Mapping[str, Any]], changes: pl.DataFrame) -> Iterator[dict[str, Any]]:
    labels = {r["arm_id"]: r["label"] for r in rows}
    order = {r["arm_id"]: k for k, r in enumerate(rows)}
    own = changes.filter("different").with_columns(place=pl.col("arm_id").replace_strict(order, return_dtype=pl.Int64))
    for row in own.sort("place", pl.col("effect_size").abs(), descending=[False, True], nulls_last=True).iter_rows(
        named=True
    ):
        yield row | {"label": labels[row["arm_id"]]}


def _lines(figures: pl.DataFrame, arms: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """One line a figure, a cell an arm."""
    keys = ["group", "metric", "setting"]
    for key, part in figures.group_by(keys, maintain_order=True):
        of_arm = {r["arm_id"]: r for r in part.iter_rows(named=True)}
        first = next(iter(of_arm.values()))
        cells = [of_arm.get(a["arm_id"]) for a in arms]
        whys = list(dict.fromkeys(r["why"] for r in of_arm.values() if r["why"]))
        yield {
            "row": first,
            "group": key[0],
            "metric": key[1],
            "setting": key[2],
            "cells": cells,
            "why": "; ".join(whys[:2]) + (" …" if len(whys) > 2 else ""),
        }


def _missing(values: pl.DataFrame) -> Iterator[str]:
    """What has no value, profile by profile, with the reasons."""
    for (profile,), part in values.group_by("profile", maintain_order=True):
        none = part.filter(pl.col("value").is_null())
        if not none.height:
            continue
        counted = none["missing"].value_counts(sort=True)
        reasons = [f"{n:,} {why}" for why, n in counted.head(4).rows()]
        if counted.height > 4:
            reasons.append(f"{counted['count'][4:].sum():,} for {counted.height - 4} further reasons")
        yield f"{profile}: {none.height:,} of {plural(part.height, 'value')} are missing: {listed(reasons)}."
