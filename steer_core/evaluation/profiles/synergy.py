"""Two vectors at once against each alone: does what they do together go beyond the sum of what each does?

Of an item with values in four settings, synergy = both - first - second + plain, which is the effect of both less the
sum of the two effects. Two vectors whose effects add have 0. A metric with ends (a share, a rating) cannot add for
ever: two vectors that each go half the way to its end have a synergy below 0 by that alone.

p turns the sign of each cluster's sum at random (`statistics.exchange_p`): under effects that add, with errors that are
as likely up as down, it is at most a in a share a of worlds. It is corrected by Holm's method over all rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl

from schemas.profiles import PLAIN, ProfileSynergy
from steer_core.evaluation.columns import Floats, to_array
from steer_core.evaluation.profiles.changes import DRAWS, LEVEL, cluster_sums, p_of
from steer_core.statistics import clustered_mean, holm

#: Bumped when the same values give other rows.
VERSION = "1"


def synergy_of(
    values: pl.DataFrame, items: pl.DataFrame, arms: pl.DataFrame, *, seed: int = 0, draws: int = DRAWS
) -> pl.DataFrame:
    """Every pair of behaviors against each alone, metric by metric.

    Args:
        values: rows of `profile_values`.
        items: rows of `profile_items`: which cluster an item is of.
        arms: rows of `profile_arms`; those of role `pair`, with the two of role `behavior` at the same strength.
        seed: of the signs.
        draws: of them, at the least.

    Returns:
        Rows of `profile_synergy`; a pair whose behaviors were not profiled alone at its strength has none.
    """
    clusters = dict(items.select("item_id", "cluster").iter_rows())
    heads, sums = [], []
    for pair, first, second in _pairs(arms):
        for head, lasting, of in _contrasts(values, (pair, first, second), clusters):
            found = clustered_mean(lasting, of)
            heads.append((*head, found.value, found.low, found.high, found.n, found.n_clusters))
            sums.append(cluster_sums(lasting, of))
    p = p_of(sums, draws, seed)
    rows = [
        (*head, None if np.isnan(a) else float(a), None if np.isnan(b) else float(b), bool(b <= LEVEL), n, g)
        for (*head, n, g), a, b in zip(heads, p, holm(p), strict=True)
    ]
    return pl.DataFrame(rows, schema=ProfileSynergy.dtypes(), orient="row")


def _pairs(arms: pl.DataFrame) -> Iterator[tuple[str, str, str]]:
    """Arms of two behaviors with those of each alone."""
    alone = {
        (json.loads(r["asked"])["behavior"], r["position"]): r["arm_id"]
        for r in arms.filter(pl.col("role") == "behavior").iter_rows(named=True)
    }
    for row in arms.filter(pl.col("role") == "pair").iter_rows(named=True):
        of = [alone.get((name, row["position"])) for name in json.loads(row["asked"])["pair"]]
        if of[0] is not None and of[1] is not None:
            yield row["arm_id"], of[0], of[1]


def _contrasts(
    values: pl.DataFrame, three: tuple[str, str, str], clusters: dict[str, str]
) -> Iterator[tuple[tuple[object, ...], Floats, Any]]:
    """Head of a row, synergy of each item with values in all four settings, and the items' clusters."""
    own = values.filter(pl.col("arm_id").is_in([PLAIN, *three]))
    means = own.group_by("profile", "metric", "item_id", "arm_id", maintain_order=True).agg(pl.col("value").mean())
    for (profile, metric), part in means.group_by("profile", "metric", maintain_order=True):
        sides = [_side(part, arm) for arm in (PLAIN, *three)]
        joined = sides[0]
        for k, side in enumerate(sides[1:], 1):
            joined = joined.join(side, on="item_id", suffix=f"_{k}")
        plain, both, first, second = (to_array(joined[c]) for c in ("value", "value_1", "value_2", "value_3"))
        effects = [float(np.mean(x - plain)) if len(plain) else None for x in (both, first, second)]
        of = np.array([clusters.get(i, i) for i in joined["item_id"]], dtype=object).astype(str)
        yield (*three, profile, metric, *effects), both - first - second + plain, of


def _side(part: pl.DataFrame, arm: str) -> pl.DataFrame:
    return part.filter(pl.col("arm_id") == arm).drop_nulls("value").select("item_id", "value")
