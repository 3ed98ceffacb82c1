"""The playground: a text of one's own, and whom it is given to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import polars as pl

from schemas.specs import GoalSpec
from steer_core.explorer.asking import Given, one, whole
from steer_core.explorer.pages import Pages
from steer_core.explorer.sample import snippet
from steer_core.reports.examples import Track
from steer_core.reports.numbers import number, signed, slug_words
from steer_core.reports.text import clip, word_diff

#: Texts that were tried which are listed.
LISTED = 24
#: Goal -> (place in goal space, raw value).
Places = Mapping[str, tuple[float | None, float | None]]


def show(pages: Pages, given: Given) -> dict[str, Any]:
    """The form: a text of the bench to begin with, sliders for goals and strengths, and what was tried last."""
    asking = pages.asking
    assert asking is not None  # without it there is no such view
    rows = pages.bench.columns("requests", ["text", "probe"])
    # a rewrite of a training text can become an example of a method
    training = rows.filter(~pl.col("probe").is_in(pages.bench.spec.test_probes))
    requests = (training if training.height else rows)["text"]
    at = whole(given, "number", 0)
    text = str(requests[at % requests.len()]) if requests.len() else ""
    cells, goals = asking.cells(), pages.bench.goals
    axes = [g for g in pages.bench.axes if g in goals]
    tried = asking.tried().head(LISTED)
    return {
        "text": one(given, "text") or text,
        "cells": cells,
        "chosen": [c for c in cells if c in given.get("cell", ())] or cells[-1:],
        "concepts": asking.concepts(),
        "axes": axes,
        "words": {g: (goals[g].less, goals[g].more) for g in axes},
        "tried": [
            {
                **row,
                "text": snippet(row["text"], 70),
                "answer": snippet(row["answer"], 110),
                "asked": _asked(row, goals),
            }
            for row in tried.iter_rows(named=True)
        ],
        "number": at,
    }


def answer(pages: Pages, row: Mapping[str, Any], starts: Places, ends: Places) -> str:
    """What came back, as a piece of a page.

    Args:
        pages: the bench.
        row: of `schemas.Tried`.
        starts: places of the text.
        ends: places of the answer.
    """
    targets = json.loads(row["targets"])
    rewritten = row["kind"] == "targets"
    tracks = tuple(
        Track(
            goal=goal,
            z0=starts[goal][0] if rewritten else ends[goal][0],  # type: ignore[arg-type]  # only known ones are drawn
            z_star=targets.get(goal),
            z_hat=ends[goal][0],
            raw_start=starts[goal][1] if rewritten else None,
            raw_got=ends[goal][1],
            unit=pages.bench.goals[goal].unit,
        )
        for goal in pages.bench.axes
        if goal in starts and goal in pages.bench.goals and (starts if rewritten else ends)[goal][0] is not None
    )
    empty = not row["answer"].strip()
    return pages.fill(
        "answer",
        {
            "row": row,
            "tracks": tracks,
            "rewritten": rewritten,
            "empty": empty,
            "diff": word_diff(row["text"], row["answer"]) if rewritten and not empty else None,
            "text": clip(row["answer"]),
            # what is unsteered, asks for nothing or is no answer is no method
            "method": bool(targets) and not row["failure"] and row["answer"].split() != row["text"].split()
            if rewritten
            else bool(row["strength"]),
        },
    )


def _asked(row: Mapping[str, Any], goals: Mapping[str, GoalSpec]) -> str:
    """What was asked for, in words."""
    if row["kind"] == "strength":
        said = "off" if row["strength"] is None else signed(row["strength"], 2)
        return f"{slug_words(row['concept'])} {said}"
    starts = json.loads(row["z0"])
    moves = {g: z - (starts.get(g) or 0.0) for g, z in json.loads(row["targets"]).items()}
    words = {g: (goals[g].more if d > 0 else goals[g].less) if g in goals else slug_words(g) for g, d in moves.items()}
    return ", ".join(f"{words[g]} by {number(abs(d), 2)}" for g, d in moves.items()) or "nothing"
