"""One sample, and the way to the next."""

from __future__ import annotations

from typing import Any

from steer_core.explorer.asking import Given, one, whole
from steer_core.explorer.compare import MOST
from steer_core.explorer.index import FIGURES
from steer_core.explorer.pages import Pages, report_link
from steer_core.explorer.query import Places
from steer_core.explorer.sample import read_sample
from steer_core.tables.errors import ConfigError


def show(pages: Pages, given: Given) -> dict[str, Any]:
    """The sample at a place of a state's order (`at`), or of a request (`request`)."""
    state = pages.state(given)
    places = pages.query.places(state)
    at = _place(pages, given, places)
    row = pages.index.samples().row(int(places[at]), named=True)
    sample = read_sample(pages.bench, pages.index, row)
    others = [c for c in pages.bench.cells() if c != sample.cell]
    return {
        "state": state,
        "at": at,
        "total": len(places),
        "page": at // state.per + 1,
        "sample": sample,
        "number": row["number"],
        "figures": FIGURES,
        "other_cells": others[: MOST - 1],
        "report": report_link(pages.bench.name, sample.cell),
    }


def _place(pages: Pages, given: Given, places: Places) -> int:
    if not len(places):
        raise ConfigError("no sample is left with these filters")
    if wanted := one(given, "request"):
        hits = (pages.index.asked().ids == wanted).arg_true()
        numbers = pages.index.samples()["number"].to_numpy()[places]
        found = (numbers == hits[0]).nonzero()[0] if len(hits) else []
        if not len(found):
            raise ConfigError(f"request {wanted!r} is not among the samples with these filters")
        return int(found[0])
    at = whole(given, "at", 0)
    if not 0 <= at < len(places):
        raise ConfigError(f"at={at}: there are {len(places)} samples with these filters, counted from 0")
    return at
