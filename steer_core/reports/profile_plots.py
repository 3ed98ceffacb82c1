"""Figures of a cell's profiles: what changed, what strength costs, and whether a model is as sure as it is right."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl

from schemas.profiles import PLAIN
from steer_core.evaluation.profiles.calibration import reliability_diagram
from steer_core.evaluation.profiles.kinds.choices import CORRECT, SURE
from steer_core.reports.drawing import CELL, CONTROL, DOWN, INK, MUTED, Figure, Panel, interval_line

#: Metrics that a panel of changes shows: those that changed most.
MOST = 14
#: Settings that get a panel of their own.
PANELS = 3
#: Longest name of a metric on an axis.
NAME = 38


def changes_figure(
    arms: Sequence[Mapping[str, Any]],
    changes: pl.DataFrame,
    *,
    name: str = "profile_changes",
    title: str = "What differs apart from the request",
    against: str = "the model as it is",
) -> Figure:
    """The largest changes in units of the spread of what they are held against, setting by setting.

    Args:
        arms: `arm_id` and `label` of what gets a panel.
        changes: rows of `profile_changes`, or others with its columns.
        name: of the figure.
        title: of the figure.
        against: what the differences are to, in words.
    """
    wide = changes.with_columns(unit=pl.col("difference") / pl.col("effect_size")).filter(
        pl.col("effect_size").is_not_null(), pl.col("effect_size") != 0.0, pl.col("low").is_not_null()
    )
    wide = wide.with_columns(
        size_low=pl.col("low") / pl.col("unit"),
        size_high=pl.col("high") / pl.col("unit"),
    )
    columns = ["arm_id", "profile", "metric", "effect_size", "size_low", "size_high", "p_adjusted", "different"]
    panels = []
    for arm in arms[:PANELS]:
        own = wide.filter(pl.col("arm_id") == arm["arm_id"])
        own = own.sort("different", pl.col("effect_size").abs(), descending=True).head(MOST)
        if own.height:
            head = str(arm["label"]) if len(arms) > 1 else ""
            panels.append(Panel(head[:60], _changes(own, against), 5.6, 1.0 + 0.24 * own.height))
    alt = f"Dots are differences to {against} with 95 percent intervals; coloured ones stand among all"
    note = "" if panels else f"Nothing to draw: no difference can be told in standard deviations of {against}."
    return Figure(
        name,
        title,
        alt,
        tuple(panels),
        wide.select(columns),
        note,
    )


def _changes(rows: pl.DataFrame, against: str) -> Callable[[Any], None]:
    def draw(axes: Any) -> None:
        names = []
        for y, row in enumerate(rows.iter_rows(named=True)):
            low, high = sorted((row["size_low"], row["size_high"]))
            interval_line(axes, y, row["effect_size"], low, high, CELL if row["different"] else CONTROL)
            name = f"{row['metric']} · {row['profile']}".replace("_", " ")
            names.append(name if len(name) <= NAME else f"{name[: NAME - 1]}…")
        axes.axvline(0.0, color=MUTED, linewidth=1, linestyle=(0, (3, 3)))
        axes.set_yticks(range(len(names)), names, color=INK)
        axes.set(ylim=(len(names) - 0.5, -0.5), xlabel=f"difference, in standard deviations of {against}")
        axes.grid(axis="x")
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)

    return draw


def cost_figure(
    arms: pl.DataFrame,
    changes: pl.DataFrame,
    profile: str,
    metric: str,
    better: int,
    budget: float | None,
    suffix: str = "",
) -> Figure | None:
    """What is lost of a capability against strength; None where no setting has a place on an axis.

    Args:
        arms: rows of `profile_arms`.
        changes: rows of `profile_changes`.
        profile: whose capability.
        metric: it.
        better: 1 where more of it is better, -1 where less is.
        budget: largest loss that is borne.
        suffix: of the figure's name.
    """
    placed = arms.filter(pl.col("position").is_not_null())
    own = changes.filter(pl.col("profile") == profile, pl.col("metric") == metric)
    rows = placed.join(own, on="arm_id", how="inner", maintain_order="left").select(
        "arm_id", "label", "asked", "position", "axis",
        loss=-better * pl.col("difference"),
        low=-better * pl.col("high" if better > 0 else "low"),
        high=-better * pl.col("low" if better > 0 else "high"),
    ).filter(pl.col("loss").is_not_null()).sort("position")  # fmt: skip
    if not rows.height:
        return None
    groups = rows.partition_by("asked", "axis", maintain_order=True)[:PANELS]
    titles = [asked_words(g["asked"][0])[:60] if len(groups) > 1 else "" for g in groups]
    panels = tuple(Panel(title, _cost(g, metric, budget), 5.2, 2.8) for title, g in zip(titles, groups, strict=True))
    alt = "Dots are losses against the model as it is with 95 percent intervals"
    return Figure(f"profile_cost{suffix}", f"What strength costs: {metric} of {profile}", alt, panels, rows)


def asked_words(asked: str) -> str:
    """What is asked for in words, from `profile_arms.asked`: `formality +0.4`, or the behavior."""
    return ", ".join(f"{k} {v:+g}" if isinstance(v, int | float) else str(v) for k, v in json.loads(asked).items())


def _cost(rows: pl.DataFrame, metric: str, budget: float | None) -> Callable[[Any], None]:
    def draw(axes: Any) -> None:
        for row in rows.iter_rows(named=True):
            if row["low"] is not None and row["high"] is not None:
                axes.plot([row["position"]] * 2, [row["low"], row["high"]], color=DOWN, linewidth=1.6)
        axes.plot(rows["position"], rows["loss"], "o-", color=DOWN, markersize=4.5, linewidth=1)
        axes.axhline(0.0, color=MUTED, linewidth=0.8)
        if budget is not None:
            axes.axhline(budget, color=CONTROL, linewidth=1.2, linestyle=(0, (4, 3)))
            place = (rows["position"].to_numpy().min(), budget)
            axes.annotate("budget", place, (0, 4), textcoords="offset points", fontsize=8, color=MUTED)
        axes.set(xlabel=rows["axis"][0], ylabel=f"loss of {metric}".replace("_", " "))
        axes.grid(axis="y")

    return draw


def reliability_figure(
    profile: str, values: pl.DataFrame, items: pl.DataFrame, arms: Sequence[Mapping[str, Any]], suffix: str = ""
) -> Figure | None:
    """Accuracy against confidence in bins of equal mass; None where the profile has no confidences.

    Args:
        profile: whose answers.
        values: rows of `profile_values`.
        items: rows of `profile_items`.
        arms: rows of `profile_arms` that are drawn, the model as it is first.
        suffix: of the figure's name.
    """
    wanted = values.filter(pl.col("profile") == profile, pl.col("metric").is_in([SURE, CORRECT]))
    if wanted["metric"].n_unique() < 2:
        return None
    wide = wanted.pivot("metric", index=["arm_id", "item_id"], values="value").drop_nulls()
    wide = wide.join(items.select("item_id", "cluster"), on="item_id", how="left")
    bins = 10 if wide.height >= 100 * wide["arm_id"].n_unique() else 5
    tables = []
    for arm in arms[:PANELS]:
        own = wide.filter(pl.col("arm_id") == arm["arm_id"])
        if own.height:
            columns = [own[c].to_numpy() for c in (SURE, CORRECT, "cluster")]
            drawn = reliability_diagram(*columns, bins=bins, scheme="mass")
            tables.append(
                drawn.select(pl.lit(arm["arm_id"]).alias("arm_id"), pl.lit(arm["label"]).alias("label"), pl.all())
            )
    if not tables:
        return None
    table = pl.concat(tables)
    panels = tuple(
        Panel(str(own["label"][0])[:46], _reliability(own, CONTROL if own["arm_id"][0] == PLAIN else CELL), 3.1, 3.0)
        for own in table.partition_by("arm_id", maintain_order=True)
    )
    alt = "Dots are bins with 95 percent intervals of their accuracy; on the diagonal a model is as sure as it is right"
    return Figure(f"reliability_{profile}{suffix}", f"Is it as sure as it is right: {profile}", alt, panels, table)


def _reliability(rows: pl.DataFrame, colour: str) -> Callable[[Any], None]:
    def draw(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (3, 3)))
        for row in rows.iter_rows(named=True):
            if row["low"] is not None:
                axes.plot([row["confidence"]] * 2, [row["low"], row["high"]], color=colour, linewidth=1.6)
        axes.plot(rows["confidence"], rows["accuracy"], "o-", color=colour, markersize=5, linewidth=1)
        axes.set(xlim=(0, 1), ylim=(-0.02, 1.02), xlabel="confidence", ylabel="share right")
        axes.grid(axis="both")

    return draw
