"""The samples of a state as a table to take along: all of them, in its order, with their texts."""

from __future__ import annotations

import polars as pl

from steer_core.explorer.asking import Given
from steer_core.explorer.index import COSTS, FIGURES
from steer_core.explorer.pages import Pages
from steer_core.explorer.sample import asked_words, texts_of
from steer_core.tables.errors import ConfigError

#: Samples of a file.
MOST = 200_000


def shown_rows(pages: Pages, given: Given) -> pl.DataFrame:
    """The samples that an address shows, whatever its page.

    Returns:
        `request_id`, `cell`, `arm`, `probe`, `asked` (in words), `failure`, `copied`, figures, costs, the two texts.

    Raises:
        ConfigError: a parameter that means nothing, or more than `MOST` samples.
    """
    places = pages.query.places(pages.state(given))
    if len(places) > MOST:
        raise ConfigError(f"these are {len(places):,} samples, and a file takes {MOST:,}: filter, or read the tables")
    rows = pages.index.samples()[places]
    numbers = rows["number"].to_list()
    texts = texts_of(pages.bench, rows)
    return rows.select(
        pages.index.asked().ids.gather(numbers).alias("request_id"),
        pl.col("cell", "arm", "probe").cast(pl.String),
        pl.Series("asked", asked_words(pages.bench, pages.index, numbers), dtype=pl.String),
        pl.col("failure").cast(pl.String),
        "copied",
        *FIGURES,
        "left",
        *COSTS,
        pl.Series("source", [s for s, _ in texts], dtype=pl.String),
        pl.Series("answer", [a for _, a in texts], dtype=pl.String),
    )
