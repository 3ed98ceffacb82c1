"""What the page says of doses: what the vectors were fitted on, how far they move, what they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from schemas.evaluation import HEADLINE
from steer_core.reports.inputs import CellTables, filled
from steer_core.reports.numbers import listed, number, percent, plural, signed, slug_words, span
from steer_core.reports.sweeps import strength_words
from steer_core.vectors.goal_contrasts.choice import left_to_the_prompt

#: A source of contrasts, in words.
SOURCES = {
    "asked": "asked for on purpose",
    "corpus": "texts of the corpus, matched",
    "mined": "mined from answers",
}


@dataclass(frozen=True)
class DoseRow:
    """One goal's dose-response in figures: what its vector can be asked for, and what it is asked for."""

    goal: str
    strengths: str
    lowest: float | None
    highest: float | None
    unusable: str
    prompt_slope: float
    prompt_intercept: float
    n: int
    asked: str


@dataclass(frozen=True)
class ContrastRow:
    """Where the contrast pairs of a goal come from; no pairs where it is left to the prompt, and why."""

    goal: str
    source: str
    pairs: int
    gap: float | None
    note: str


def dose_rows(doses: pl.DataFrame) -> list[DoseRow]:
    """A row a goal, from rows of `dose_response` of one part."""
    found = []
    for (goal,), rows in doses.group_by("goal", maintain_order=True):
        own = rows.filter(pl.col("observed_goal") == goal, pl.col("strength").is_not_null()).sort("strength")
        good = own.filter(pl.col("usable"), pl.col("fitted").is_not_null())
        fitted = good["fitted"].to_list()
        unusable = own.filter(~pl.col("usable")).select("strength", "unit").rows()
        found.append(
            DoseRow(
                goal=slug_words(str(goal)),
                strengths=_strength_list(good) if good.height else "none",
                lowest=min(fitted, default=None),
                highest=max(fitted, default=None),
                unusable=", ".join(strength_words(s, u) for s, u in unusable) or "none",
                prompt_slope=rows["prompt_slope"][0],
                prompt_intercept=rows["prompt_intercept"][0],
                n=int(rows["n"].to_numpy().max()),
                asked=_asked(rows.row(0, named=True)),
            )
        )
    return found


def _asked(row: dict[str, object]) -> str:
    """What the vector is asked for, and what that was worth on the training pool."""
    share, floor, gain, low, high = (
        None if row[k] is None else float(str(row[k])) for k in ("share", "floor", "gain", "gain_low", "gain_high")
    )
    if not share:
        return "nothing: no dose took error away"
    said = percent(share) if share < 1 else "all"
    said += f" of what is left, from {floor:g} on" if floor else " of what is left"
    if gain is None:
        return said
    return f"{said}; takes {number(gain)} {span(low, high)} of error away"


def _strength_list(rows: pl.DataFrame) -> str:
    words = [strength_words(s, u) for s, u in rows.select("strength", "unit").iter_rows()]
    return words[0] if len(words) == 1 else f"{words[0]} to {words[-1]}"


def contrast_rows(tables: CellTables) -> tuple[ContrastRow, ...]:
    """A row a goal; empty where the table is not there."""
    sources = filled(tables.fitted.get("contrast_sources"))
    if sources is None:
        return ()
    left = left_to_the_prompt(sources)
    found = []
    for goal in sources["goal"].unique(maintain_order=True):
        used = sources.filter(pl.col("goal") == goal, "used")
        if goal in left:
            found.append(ContrastRow(slug_words(goal), "none: left to the prompt", 0, None, left[goal]))
        elif used.height:
            row = used.row(0, named=True)
            found.append(
                ContrastRow(slug_words(goal), SOURCES[row["source"]], row["pairs"], row["gap"], str(row["note"]))
            )
    return tuple(found)


def dosed_share(tables: CellTables) -> str:
    """How many of the probe's requests got a dose, in words."""
    chosen = tables.outcomes.filter(pl.col("arm_id") == HEADLINE)
    steered = tables.responses.filter(pl.col("receipt").is_not_null())
    n = chosen.join(steered, on="response_id", how="semi").height
    rest = "" if n == chosen.height else "; the others were left to the prompt"
    return f"{n} of {plural(chosen.height, 'request')} got a dose ({percent(n / max(chosen.height, 1))}){rest}."


def dose_caveats(tables: CellTables, goals: Sequence[str]) -> tuple[str, ...]:
    """Goals without a vector, whose vector moves them the wrong way or not at all, or whose doses do not help."""
    return (*_left(tables, goals), *_wrong_way(tables, goals), *_unhelpful(tables, goals))


def _left(tables: CellTables, goals: Sequence[str]) -> list[str]:
    sources = filled(tables.fitted.get("contrast_sources"))
    left = {} if sources is None else left_to_the_prompt(sources)
    return [
        f"{slug_words(goal)} has no vector and is left to the prompt: {left[goal]}." for goal in goals if goal in left
    ]


def _unhelpful(tables: CellTables, goals: Sequence[str]) -> list[str]:
    doses = filled(tables.fitted.get("dose_response"))
    if doses is None:
        return []
    idle = doses.filter(pl.col("share") == 0, pl.col("goal").is_in(list(goals))).unique(
        ["part", "goal"], maintain_order=True
    )
    several = doses["part"].n_unique() > 1
    names = [
        f"{slug_words(goal)}{f' ({part})' if several else ''}" for part, goal in idle.select("part", "goal").iter_rows()
    ]
    left = "it is" if len(names) == 1 else "they are"
    return (
        [f"No dose took error away on the training pool for {listed(names)}: {left} left to the prompt."]
        if names
        else []
    )


def _wrong_way(tables: CellTables, goals: Sequence[str]) -> list[str]:
    """Goals whose vector moves them down with strength, or up against it, beyond its interval."""
    doses = filled(tables.fitted.get("dose_response"))
    if doses is None:
        return []
    said, still = [], []
    own = doses.filter(
        pl.col("goal").is_in(list(goals)),
        pl.col("goal") == pl.col("observed_goal"),
        "usable",
        pl.col("strength").is_not_null(),
        pl.col("strength") != 0,
    )
    several = doses["part"].n_unique() > 1
    for (label, goal), rows in own.group_by("part", "goal", maintain_order=True):
        of_goal = slug_words(str(goal)) + (f" ({label})" if several else "")
        against = rows.filter(
            ((pl.col("strength") > 0) & (pl.col("high") < 0)) | ((pl.col("strength") < 0) & (pl.col("low") > 0))
        )
        along = rows.filter(
            ((pl.col("strength") > 0) & (pl.col("low") > 0)) | ((pl.col("strength") < 0) & (pl.col("high") < 0))
        )
        if against.height > along.height:
            worst = against.sort(pl.col("move").abs(), descending=True).row(0, named=True)
            said.append(
                f"The vector of {of_goal} points the wrong way: {signed(worst['move'])} at strength "
                f"{strength_words(worst['strength'], worst['unit'])} on the training pool."
            )
        elif rows.height and not along.height:
            still.append(of_goal)
    if still:
        it = "it" if len(still) == 1 else "them"
        said.append(f"No strength of the vectors of {listed(still)} moved {it} on the training pool.")
    return said
