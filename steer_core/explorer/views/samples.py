"""Samples: a list of all that was asked and came back, filtered, searched and ordered."""

from __future__ import annotations

from typing import Any

import polars as pl

from steer_core.explorer.asking import Given
from steer_core.explorer.pages import Pages


def show(pages: Pages, given: Given) -> dict[str, Any]:
    """A page of the samples of a state."""
    state = pages.state(given)
    places = pages.query.places(state)
    last = max(1, -(-len(places) // state.per))
    state = state if state.page <= last else state.having(page=last)
    samples = pages.index.samples()
    # means of what is listed: no claim about a method, for filters choose
    own = samples[places].select(
        pl.col("error").mean().alias("error"),
        pl.col("meaning_content").mean().alias("meaning"),
        pl.col("failure").is_not_null().sum().alias("failed"),
        pl.col("copied").sum(),
    )
    return {
        "state": state,
        "choices": pages.choices(),
        "total": len(places),
        "all": samples.height,
        "last": last,
        "rows": pages.listed(pages.query.page(state)),
        "facts": own.row(0, named=True),
    }
