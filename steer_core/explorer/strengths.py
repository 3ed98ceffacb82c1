"""Strengths of a sweep: one behavior, one item at a time; what each strength wrote, did and cost."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import polars as pl

from steer_core.explorer.bench import Bench
from steer_core.reports.text import Clipped, clip
from steer_core.tables.errors import ConfigError

#: Measures of an arm that are shown beside its answers, where the sweep has them, with what each is.
SHOWN = {
    "judged": "judged",
    "propensity": "propensity",
    "kl": "KL, nats a token",
    "perplexity": "perplexity",
    "length": "tokens written",
    "truncated": "cut off",
}
#: Measures of what steering does, the first that there is stands over the strengths; and of what it costs.
EFFECTS, COSTS = ("judged", "propensity"), ("kl", "perplexity")


@dataclass(frozen=True)
class Arm:
    """A setting of the sweep.

    Attributes:
        arm_id: of the arm.
        role: `vector`, `off` or `prompt`.
        label: in words.
        strength: of the vector; None for the others.
        figures: measure -> mean and ends of its interval, clustered by item.
        text: what was written to the item; None: nothing is kept.
        failure: why that is no answer.
        verdict: the judge's word on it; None without one.
    """

    arm_id: str
    role: str
    label: str
    strength: float | None
    figures: dict[str, tuple[float | None, ...]]
    text: Clipped | None
    failure: str | None
    verdict: float | None


@dataclass(frozen=True)
class Strengths:
    """A behavior in a cell.

    Attributes:
        cell: `method|model`.
        behavior: which.
        behaviors: all that were swept.
        setting: layers and positions shown.
        settings: all that were swept at several strengths.
        unit: of the strengths.
        items: how many open items there are.
        item: which is shown, from 0.
        prompt: of the item.
        arms: by strength, the unsteered one at 0; prompts last.
        measures: names that some arm has a figure for.
    """

    cell: str
    behavior: str
    behaviors: tuple[str, ...]
    setting: str
    settings: tuple[str, ...]
    unit: str
    items: int
    item: int
    prompt: Clipped
    arms: tuple[Arm, ...]
    measures: tuple[str, ...]


def swept_cells(bench: Bench) -> list[str]:
    """Cells with a sweep."""
    return bench.cells("sweep_arms")


def strengths(bench: Bench, cell: str, *, behavior: str = "", setting: str = "", item: int = 0) -> Strengths:
    """What was written at each strength.

    Args:
        bench: the bench.
        cell: with a sweep.
        behavior: empty: the first.
        setting: layers and positions, as `settings` has them; empty: the one with most strengths.
        item: which open item, from 0; taken round.

    Raises:
        ConfigError: the cell has no sweep, or not this behavior or setting.
    """
    arms = bench.rows("sweep_arms", cell)
    behaviors = tuple(arms["behavior"].unique(maintain_order=True))
    if not behaviors:
        raise ConfigError(f"cell {cell!r} was not swept")
    behavior = behavior or behaviors[0]
    if behavior not in behaviors:
        raise ConfigError(f"behavior {behavior!r} was not swept in {cell}; it has {', '.join(behaviors)}")
    own = arms.filter(pl.col("behavior") == behavior).with_columns(
        setting=pl.concat_str("layers", pl.lit(" "), pl.col("positions").fill_null(""))
    )
    vectors = own.filter(pl.col("role") == "vector")
    counted = vectors.group_by("setting", maintain_order=True).agg(
        n=pl.col("strength").n_unique(), seed=pl.col("seed").min()
    )
    order = counted.sort("n", descending=True, maintain_order=True)
    settings = tuple(order["setting"])
    setting = setting or (settings[0] if settings else "")
    if settings and setting not in settings:
        raise ConfigError(f"setting {setting!r} was not swept; there are {', '.join(settings)}")
    first_seed = vectors.filter(pl.col("setting") == setting)["seed"].min()
    shown = pl.concat(
        [
            vectors.filter(pl.col("setting") == setting, pl.col("seed") == first_seed),
            own.filter(pl.col("role").is_in(["off", "prompt"])),
        ]
    ).with_columns(at=pl.col("strength").fill_null(0.0), last=pl.col("role") == "prompt")
    shown = shown.sort("last", "at", "side", nulls_last=True)
    items = bench.rows("behavior_items").filter(pl.col("behavior") == behavior, pl.col("form") == "open")
    items = items.sort("item_id")
    place = item % items.height if items.height else 0
    asked = items.row(place, named=True) if items.height else None
    texts = _texts(bench, cell, shown["arm_id"].to_list(), asked["item_id"] if asked else "")
    figures = _figures(bench, cell, shown["arm_id"].to_list())
    found = tuple(
        Arm(
            arm_id=row["arm_id"],
            role=row["role"],
            label=_label(row),
            strength=row["strength"],
            figures=figures.get(row["arm_id"], {}),
            **texts.get(row["arm_id"], {"text": None, "failure": None, "verdict": None}),
        )
        for row in shown.iter_rows(named=True)
    )
    there = {m for arm in found for m in arm.figures}
    units = shown["unit"].drop_nulls()
    return Strengths(
        cell=cell,
        behavior=behavior,
        behaviors=behaviors,
        setting=setting,
        settings=settings,
        unit=str(units[0]) if units.len() else "",
        items=items.height,
        item=place,
        prompt=clip(_asked(asked["messages"]) if asked else ""),
        arms=found,
        measures=tuple(m for m in SHOWN if m in there),
    )


def _asked(messages: str) -> str:
    return "\n\n".join(str(m.get("content", "")) for m in json.loads(messages))


def _label(row: dict[str, Any]) -> str:
    if row["role"] == "off":
        return "unsteered"
    if row["role"] == "vector":
        return f"{row['strength']:+g}".replace("-", "−")
    side = {1: "asked for it", -1: "asked for its opposite"}.get(row["side"], "asked")
    return f"{side}, with examples" if row["turns"] else side


def _figures(bench: Bench, cell: str, arms: list[str]) -> dict[str, dict[str, tuple[float | None, ...]]]:
    rows = bench.rows("arm_summary", cell).filter(
        pl.col("arm_id").is_in(arms), pl.col("group") == "main", pl.col("measure").is_in(list(SHOWN))
    )
    found: dict[str, dict[str, tuple[float | None, ...]]] = {}
    for arm, measure, *ends in rows.select("arm_id", "measure", "mean", "low", "high").iter_rows():
        found.setdefault(arm, {})[measure] = tuple(ends)
    return found


def _texts(bench: Bench, cell: str, arms: list[str], item: str) -> dict[str, dict[str, Any]]:
    here = pl.col("arm_id").is_in(arms) & (pl.col("item_id") == item) & (pl.col("sample_index") == 0)
    answers = bench.rows("arm_answers", cell).filter(here)
    verdicts = bench.rows("arm_scores", cell).filter(here, pl.col("measure") == "judged")
    said = dict(verdicts.select("arm_id", "value").iter_rows())
    return {
        arm: {"text": clip(text, 1200), "failure": failure, "verdict": said.get(arm)}
        for arm, text, failure in answers.select("arm_id", "text", "failure").iter_rows()
    }


def layers_of(setting: str) -> str:
    """A setting in words: `layer 2, all positions`."""
    layers, _, positions = setting.partition("] ")
    numbers = json.loads(layers + "]") if positions else []
    said = ", ".join(map(str, numbers))
    return f"layer{'s' if len(numbers) > 1 else ''} {said}, {positions} positions" if numbers else setting
