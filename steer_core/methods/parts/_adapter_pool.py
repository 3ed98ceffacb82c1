"""The training pool of an adapter, cut by text: what is trained on, and what states are tried on."""

from __future__ import annotations

from typing import cast

import polars as pl

from schemas.adapter_part import AdapterPart
from schemas.adapters import TrainingSamples
from steer_core.adapters.split import split_by_text
from steer_core.methods.fitting import FitContext, Tables
from steer_core.methods.part import Part
from steer_core.tables.errors import ConfigError


def spec_of(part: Part) -> AdapterPart:
    """Settings of an adapter part."""
    return cast(AdapterPart, part.spec)


def pool_of(cell: FitContext, tables: Tables, trial_texts: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The training pool, cut by text: requests that are trained on, and requests that states are tried on.

    Raises:
        ConfigError: there are not enough texts, or a text of the pool stands in a test probe.
    """
    pool = tables["requests"].filter(pl.col("probe") == cell.bench.train_probe)
    split = split_by_text(
        tables["requests"], TrainingSamples.empty(), str(cell.bench.train_probe), cell.bench.test_probes
    )
    if split.shared:
        raise ConfigError(
            f"{len(split.shared)} texts of the training pool stand in a test probe as well (first: "
            f"{split.shared[0][0]}): what is trained on them would be tested on them"
        )
    # ids are hashes: the first of them are a draw
    texts = sorted(set(pool["text_id"]))
    if len(texts) <= trial_texts:
        raise ConfigError(
            f"the training pool has {len(texts)} texts, and trial_texts = {trial_texts} of them are kept for picking a "
            "state: lower it, or draw more texts"
        )
    kept = pl.col("text_id").is_in(texts[:trial_texts])
    return pool.filter(~kept), pool.filter(kept)
