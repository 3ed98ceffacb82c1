"""Rewrites to read: the best, the typical, the worst, and those that failed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from schemas.specs import GoalSpec
from steer_core.evaluation.costs import cost_unknown
from steer_core.reports.inputs import CellTables
from steer_core.reports.text import Clipped, WordDiff, clip, word_diff

#: Moves below the first are asked for as `slightly`, above the second as `much`.
SLIGHTLY_BELOW, MUCH_ABOVE = 0.2, 0.5
#: Failed rewrites shown at most.
MOST_FAILED = 3


@dataclass(frozen=True)
class Track:
    """One goal of one request in goal space: start, target (null: not asked), got (null: not measured)."""

    goal: str
    z0: float
    z_star: float | None
    z_hat: float | None
    raw_start: float | None
    raw_got: float | None
    unit: str


@dataclass(frozen=True)
class Example:
    """One request and its answer, ready to print. Texts are visible and clipped, not yet escaped."""

    kind: str
    request_id: str
    asked: str
    failure: str | None
    copied: bool
    finish_reason: str | None
    error: float | None
    requested: float
    meaning: float | None
    tokens: int | None
    calls: int | None
    tracks: tuple[Track, ...]
    diff: WordDiff
    empty: bool
    prompt: Clipped | None


def in_words(goals: Mapping[str, GoalSpec], deltas: Mapping[str, float]) -> str:
    """A request in words: `much more formal and slightly shorter`.

    Args:
        goals: goal -> spec.
        deltas: active goal -> z* - z0.
    """
    phrases = []
    for goal, delta in deltas.items():
        size = abs(delta)
        strength = "slightly " if size < SLIGHTLY_BELOW else "much " if size > MUCH_ABOVE else ""
        phrases.append(strength + (goals[goal].more if delta > 0 else goals[goal].less))
    if len(phrases) < 2:
        return phrases[0] if phrases else "leave everything as it is"
    return f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def examples(tables: CellTables) -> tuple[Example, ...]:
    """Two best, two median and two worst complete cases, then up to `MOST_FAILED` failures of different kinds.

    Complete cases are ordered by the share of the asked distance that is left (|z* - zh| / |z* - z0|); where nothing
    was asked, by the error itself.
    """
    share = pl.when(pl.col("requested") > 0).then(pl.col("error") / pl.col("requested")).otherwise(pl.col("error"))
    scored = tables.steerability.filter(pl.col("error").is_not_null())
    ranked = scored.with_columns(left=share).sort("left", "request_id")
    n = ranked.height
    places = {"best": (0, 1), "typical": (n // 2, n // 2 + 1), "worst": (n - 2, n - 1)}
    taken: dict[int, str] = {}
    for kind, numbers in places.items():
        for place in numbers:
            if 0 <= place < n:
                taken.setdefault(place, kind)
    chosen = [(kind, ranked.row(place, named=True)) for place, kind in taken.items()]
    failed = tables.steerability.filter(pl.col("failure").is_not_null()).sort("request_id")
    # one of each kind first: three alike teach less than three different ones
    order = failed.with_columns(turn=pl.int_range(pl.len()).over("failure")).sort("turn", "failure").head(MOST_FAILED)
    chosen += [("failed", row) for row in order.iter_rows(named=True)]
    return tuple(_example(tables, kind, row) for kind, row in chosen)


def _example(tables: CellTables, kind: str, row: dict[str, Any]) -> Example:
    here = pl.col("request_id") == row["request_id"]
    source = _only(tables.requests.filter(here), "requests", row["request_id"])
    outcome = _only(tables.outcomes.filter(here), "outcomes", row["request_id"])
    response = tables.responses.filter(pl.col("response_id") == outcome["response_id"])
    empty = not outcome["text"].strip()
    starts = {g["goal"]: g for g in tables.request_goals.filter(here).iter_rows(named=True)}
    moved = {m["goal"]: m for m in tables.movements.filter(here).iter_rows(named=True)}
    deltas = {
        goal: starts[goal]["z_star"] - starts[goal]["z0"]
        for goal in tables.axes
        if goal in starts and starts[goal]["z_star"] is not None
    }
    tracks = tuple(
        Track(
            goal=goal,
            z0=start["z0"],
            z_star=start["z_star"],
            z_hat=moved[goal]["z_hat"] if goal in moved else None,
            raw_start=start["z0_raw"],
            raw_got=moved[goal]["value"] if goal in moved else None,
            unit=tables.goals[goal].unit,
        )
        for goal in tables.axes
        if (start := starts.get(goal)) is not None
    )
    elsewhere = bool(tables.outcomes.select(cost_unknown().any()).item())
    return Example(
        kind=kind,
        request_id=row["request_id"],
        asked=in_words(tables.goals, deltas),
        failure=row["failure"],
        copied=row["copied"],
        finish_reason=response["finish_reason"][0] if response.height else None,
        error=row["error"],
        requested=row["requested"],
        meaning=row["meaning_content"],
        tokens=None if elsewhere else outcome["completion_tokens"],
        calls=None if elsewhere else outcome["n_calls"],
        tracks=tracks,
        # nothing was removed where nothing was written
        diff=word_diff(source["text"], source["text"] if empty else outcome["text"]),
        empty=empty,
        prompt=_prompt(response["plan"][0]) if response.height else None,
    )


def _only(rows: pl.DataFrame, table: str, request_id: str) -> dict[str, Any]:
    if rows.height != 1:
        raise ValueError(f"table {table!r} has {rows.height} rows for request {request_id}; it must have exactly one")
    return rows.row(0, named=True)


def _prompt(plan: str) -> Clipped:
    """What the model read: the messages or the text of a plan, or the plan's JSON where it has neither."""
    parsed = json.loads(plan)
    if isinstance(parsed, dict) and isinstance(parsed.get("messages"), list):
        return clip("\n\n".join(f"{m.get('role', '?')}: {m.get('content', '')}" for m in parsed["messages"]))
    if isinstance(parsed, dict) and isinstance(parsed.get("text"), str):
        return clip(parsed["text"])
    return clip(plan)
