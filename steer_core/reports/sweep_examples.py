"""Open answers to read side by side: the same item at the lowest strength, unsteered, and at the highest."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import polars as pl

from steer_core.evaluation.behaviors.findings import item_slopes
from steer_core.evaluation.behaviors.side_effects import JUDGED
from steer_core.reports.inputs import CellTables, filled
from steer_core.reports.sweeps import Sweep, strength_words
from steer_core.reports.text import Clipped, clip

#: Characters of an answer that are shown: three stand side by side.
MOST_SHOWN = 900
#: Items that go against the vector, shown at most.
MOST_AGAINST = 2


@dataclass(frozen=True)
class Answer:
    """What one arm wrote to one item, and how it was judged (null: no verdict)."""

    label: str
    text: Clipped | None
    failure: str | None
    value: float | None


@dataclass(frozen=True)
class SweepExample:
    """An item with its answers, from the lowest strength to the highest.

    Attributes:
        kind: `typical`, `moves most`, `moves least`, `against the vector`; `item` where nothing was judged.
        item_id: item.
        prompt: the turns before the answer.
        slope: change of the verdict for 1 of strength; None where it is undefined.
        answers: lowest strength, unsteered, highest strength.
    """

    kind: str
    item_id: str
    prompt: Clipped
    slope: float | None
    answers: tuple[Answer, ...]


def sweep_examples(tables: CellTables, sweep: Sweep) -> tuple[tuple[SweepExample, ...], str]:
    """Examples of a behavior, and a note that says why there are none or what they lack.

    Items are ordered by the least-squares slope of their verdict on strength, as in the finding `anti_steerable`.
    """
    answers, items = filled(tables.arm_answers), filled(tables.behavior_items)
    if answers is None or items is None:
        lacking = "the answers (`arm_answers`)" if answers is None else "the items (`behavior_items`)"
        return (), f"No answer to show: {lacking} are not among the tables."
    main = sweep.arms.filter(pl.col("main")).sort("strength")
    own = items.filter(pl.col("behavior") == sweep.behavior, pl.col("form") == "open", pl.col("group") == sweep.group)
    if main.is_empty() or own.is_empty():
        return (), "No answer to show: the behavior has no open items, or no arm with a vector."
    arms = _shown_arms(sweep, main)
    written = answers.filter(pl.col("arm_id").is_in([a for a, _ in arms]))
    own = own.join(written, on="item_id", how="semi", maintain_order="left")
    if own.is_empty():
        return (), "No answer to show: nothing was written at the ends of the strengths."
    verdicts = _verdicts(tables, sweep)
    slopes = _slopes(verdicts, main, own["item_id"].to_list())
    chosen = _chosen(slopes) if slopes else [("item", item_id) for item_id in own["item_id"][:3]]
    note = "" if verdicts is not None else "Judged values (`arm_scores`) are not among the tables."
    return tuple(_example(kind, item_id, arms, own, written, verdicts, slopes) for kind, item_id in chosen), note


def _shown_arms(sweep: Sweep, main: pl.DataFrame) -> list[tuple[str, str]]:
    """(arm id, label) of the lowest strength, the unsteered arm and the highest strength, as far as there are any."""
    rows = main.select("arm_id", "strength").rows()
    off = [(arm, "unsteered") for arm in sweep.arms.filter(pl.col("role") == "off")["arm_id"]]
    ends = [(arm, f"at {strength_words(strength, sweep.unit)}") for arm, strength in (rows[0], rows[-1])]
    return [*off, ends[1]] if len(rows) == 1 else [ends[0], *off, ends[1]]


def _verdicts(tables: CellTables, sweep: Sweep) -> pl.DataFrame | None:
    scores = filled(tables.arm_scores)
    if scores is None:
        return None
    return scores.filter(pl.col("measure") == JUDGED).join(sweep.arms, on="arm_id", how="semi", maintain_order="left")


def _slopes(verdicts: pl.DataFrame | None, main: pl.DataFrame, items: list[str]) -> dict[str, float]:
    """Item -> slope, by rising slope; items whose slope is undefined are left out."""
    if verdicts is None:
        return {}
    by_item = verdicts.drop_nulls("value").group_by("arm_id", "item_id").agg(pl.col("value").mean())
    means = {(arm, item): value for arm, item, value in by_item.iter_rows()}
    values = np.array([[means.get((arm, item), np.nan) for arm in main["arm_id"]] for item in items], dtype=np.float64)
    found = item_slopes(main["strength"].to_numpy(), values)
    pairs = [(item, float(slope)) for item, slope in zip(items, found, strict=True) if np.isfinite(slope)]
    return dict(sorted(pairs, key=lambda pair: (pair[1], pair[0])))


def _chosen(slopes: dict[str, float]) -> list[tuple[str, str]]:
    """(kind, item): the median, the one that moves most, and those that move against the vector, or least."""
    ranked = list(slopes)
    against = [item for item in ranked if slopes[item] < 0][:MOST_AGAINST]
    chosen = {ranked[len(ranked) // 2]: "typical"}
    chosen.setdefault(ranked[-1], "moves most")
    for item in against or ranked[:1]:
        chosen.setdefault(item, "against the vector" if item in against else "moves least")
    # the median itself may be one that goes against the vector
    return [("against the vector" if slopes[item] < 0 else kind, item) for item, kind in chosen.items()]


def _example(
    kind: str,
    item_id: str,
    arms: list[tuple[str, str]],
    items: pl.DataFrame,
    written: pl.DataFrame,
    verdicts: pl.DataFrame | None,
    slopes: dict[str, float],
) -> SweepExample:
    first = (pl.col("item_id") == item_id) & (pl.col("sample_index") == 0)
    answers = []
    for arm, label in arms:
        here = first & (pl.col("arm_id") == arm)
        row = written.filter(here)
        judged = None if verdicts is None else verdicts.filter(here)["value"]
        answers.append(
            Answer(
                label,
                clip(row["text"][0], MOST_SHOWN) if row.height else None,
                row["failure"][0] if row.height else "not answered",
                None if judged is None or not len(judged) else judged[0],
            )
        )
    turns = json.loads(items.filter(pl.col("item_id") == item_id)["messages"][0])
    prompt = "\n\n".join(t["content"] if len(turns) == 1 else f"{t['role']}: {t['content']}" for t in turns)
    return SweepExample(kind, item_id, clip(prompt, MOST_SHOWN), slopes.get(item_id), tuple(answers))
