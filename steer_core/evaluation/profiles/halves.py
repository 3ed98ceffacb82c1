"""A setting that is chosen on half of the items and told on the other half (AxBench: Wu et al. 2025, section 4).

What is best of several on the items that it was chosen by is too good: noise helped to choose it. The other half knows
nothing of the choice, so its mean and interval are those of a setting that was named beforehand. Halves are of
clusters, by a hash of their names: whoever runs the bench again, and every cell of it, has the same ones. By the half
that chooses, a missing value counts as the worst that any setting has: who breaks the judge is not the better for it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import polars as pl

from schemas.digest import digest_text
from schemas.profiles import PLAIN
from steer_core.evaluation.columns import to_array
from steer_core.statistics import Estimate, clustered_mean, paired_contrast
from steer_core.tables.errors import SteerworksError

#: Bumped when the same values give another choice.
VERSION = "1"


@dataclass(frozen=True)
class Chosen:
    """The setting that is best on half of the items.

    Attributes:
        arm_id: it.
        choosing: its mean on the half that it was chosen by: too good.
        held_out: its mean on the other half.
        difference: the same, less that of the model as it is, item by item.
    """

    arm_id: str
    choosing: float
    held_out: Estimate
    difference: Estimate


def halves(clusters: Collection[str]) -> tuple[frozenset[str], frozenset[str]]:
    """Clusters that a choice is made by, and the others; of an odd number the one more is chosen by."""
    order = sorted(set(clusters), key=lambda name: (digest_text(name), name))
    return frozenset(order[::2]), frozenset(order[1::2])


def chosen_on_half(
    values: pl.DataFrame, items: pl.DataFrame, arms: Collection[str], *, profile: str, metric: str, better: int = 1
) -> Chosen | None:
    """The best of several settings on half of a profile's items, with what it comes to on the other half.

    Args:
        values: rows of `profile_values`.
        items: rows of `profile_items`.
        arms: the settings; the model as it is, is none of them.
        profile: whose values.
        metric: what is chosen by.
        better: 1 where more of it is better, -1 where less is.

    Returns:
        None where no setting has a value on each half.

    Raises:
        SteerworksError: `better` is neither, or an item has no cluster.
    """
    if better not in (1, -1):
        raise SteerworksError(f"better = {better}: 1 where more is better, -1 where less is")
    own = values.filter(pl.col("profile") == profile, pl.col("metric") == metric)
    means = own.group_by("arm_id", "item_id", maintain_order=True).agg(pl.col("value").mean())
    placed = means.join(items.select("item_id", "cluster"), on="item_id", how="left", maintain_order="left")
    if n := placed["cluster"].null_count():
        raise SteerworksError(f"profile {profile!r}: {n} values are of items that `profile_items` does not have")
    first, second = halves(placed["cluster"].to_list())
    by = placed.filter(pl.col("cluster").is_in(list(first)))
    told = placed.filter(pl.col("cluster").is_in(list(second)))
    worst = by["value"].min() if better > 0 else by["value"].max()
    of_arm = dict(by.group_by("arm_id").agg(pl.col("value").fill_null(worst).mean()).iter_rows())
    known = [(better * of_arm[arm], arm) for arm in arms if of_arm.get(arm) is not None]
    if not known:
        return None
    # of equal ones the first
    best = max(known, key=lambda one: one[0])[1]
    rows = told.filter(pl.col("arm_id") == best)
    if rows["value"].null_count() == rows.height:
        return None
    plain = told.filter(pl.col("arm_id") == PLAIN).select("item_id", plain="value")
    pairs = rows.join(plain, on="item_id", how="left", maintain_order="left")
    clusters = pairs["cluster"].to_numpy()
    held_out = clustered_mean(to_array(pairs["value"]), clusters)
    beside = paired_contrast(to_array(pairs["value"]), to_array(pairs["plain"]), clusters)
    difference = Estimate(beside.difference, beside.low, beside.high, beside.n, beside.n_clusters)
    return Chosen(best, of_arm[best], held_out, difference)
