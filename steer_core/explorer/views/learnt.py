"""Vectors and adapters of a cell."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from steer_core.explorer.asking import Given, check, one
from steer_core.explorer.pages import Pages, report_link
from steer_core.explorer.vectors import learnt
from steer_core.reports.drawing import RenderedFigure, render
from steer_core.reports.sections.adapter import curves, states_of, trained


@dataclass(frozen=True)
class Training:
    """How the adapter of a part was trained.

    Attributes:
        part: its label.
        said: in sentences.
        states: a row a state that was tried.
        figure: step by step; None where it was trained elsewhere.
    """

    part: str
    said: tuple[str, ...]
    states: tuple[dict[str, Any], ...]
    figure: RenderedFigure | None


def show(pages: Pages, given: Given) -> dict[str, Any]:
    """What a cell learnt."""
    cells = [c for c in pages.bench.cells("vectors") if pages.bench.columns("vectors", ["vector_id"], c).height]
    cells += [c for c in pages.bench.cells("adapters") if c not in cells]
    cell = one(given, "cell") or next(iter(cells), "")
    check("cell", [cell] if cell else [], cells)
    return {
        "cells": cells,
        "found": learnt(pages.bench, cell) if cell else None,
        "trainings": _trainings(pages, cell) if cell else (),
        "report": report_link(pages.bench.name, cell) if cell else "",
    }


def _trainings(pages: Pages, cell: str) -> tuple[Training, ...]:
    adapters, logs = pages.bench.rows("adapters", cell), pages.bench.rows("training_log", cell)
    samples, trials = pages.bench.rows("training_samples", cell), pages.bench.rows("checkpoint_trials", cell)
    found = []
    for number, part in enumerate(adapters["part"].unique(maintain_order=True), start=1):
        own, log, drawn, tried = (rows.filter(pl.col("part") == part) for rows in (adapters, logs, samples, trials))
        figure = render(replace(curves(log), name=f"training_{number}")) if log.height else None
        found.append(Training(part, tuple(trained(own, log, drawn)), tuple(states_of(own, tried)), figure))
    return tuple(found)
