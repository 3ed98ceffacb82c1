"""What steering changes: each setting of a cell against the model as it is, item by item; and what a budget allows.

1. Samples of an item are averaged; an item is a pair where both sides have a value. Intervals cluster as items do.
2. p exchanges the two sides within clusters at random (`statistics.exchange_p`), and is corrected by Holm's method over
   all metrics of all profiles and settings of the cell: a page says of single ones that they differ, and what has to be
   rare is one wrong sentence on it, however they hang together.
3. A budget: arms are looked at from the weakest on; each is borne if the largest loss that it may have (one-sided,
   95 %) lies below the budget, and the first that is not ends it. An arm that costs more than the budget is chosen only
   if the first such arm passed its own test, so in at most 5 % of worlds, whatever the other arms do (fixed sequence:
   Maurer, Hothorn and Lehmacher 1995).
4. A value that is missing under steering alone counts as its worst. Few losses of a share are no proof of none: a
   mean that never moved has no spread. One whole cluster of losses is added, and the upper end of the two-sided
   interval taken; with 0 to 5 losses of 60 that is the exact one-sided binomial bound or up to .01 more, of more
   items to within .005. So a loss of .05 is excluded by 60 clusters without any, and by no fewer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from schemas.profiles import PLAIN, ProfileChanges
from steer_core.evaluation.columns import Floats, to_array
from steer_core.statistics import clustered_mean, exchange_p, holm, paired_contrast
from steer_core.tables.errors import SteerworksError

#: Bumped when the same values give other changes.
VERSION = "2"
#: Chance of a wrong `different` among all of a cell.
LEVEL = 0.05
#: Random exchanges behind each p, at the least; more where there are many tests.
DRAWS = 10_000
#: Cells among which a difference can stand, at the least.
CELLS = 20


def changes_of(
    values: pl.DataFrame,
    items: pl.DataFrame,
    *,
    seed: int = 0,
    draws: int = DRAWS,
    cells: int = CELLS,
    digests: Mapping[str, str] | None = None,
) -> pl.DataFrame:
    """Every setting against the model as it is, metric by metric.

    Args:
        values: rows of `profile_values`, of all arms with `plain` among them.
        items: rows of `profile_items`: which cluster an item is of.
        seed: of the exchanges.
        draws: of them, at the least.
        cells: among how many cells one may have to stand (`frontier`): p is resolved as finely as that takes.
        digests: profile -> what tells whether it was edited since (`kind.digests`).

    Returns:
        Rows of `profile_changes`, arm by arm; none of the plain model itself.

    Raises:
        SteerworksError: there are values of arms and none of the plain model.
    """
    if values.height and PLAIN not in values["arm_id"]:
        raise SteerworksError("profiles of a cell without those of the plain model: there is nothing to compare with")
    steered = values.filter(pl.col("arm_id") != PLAIN)
    plain = values.filter(pl.col("arm_id") == PLAIN).drop("arm_id")
    beside = steered.select("arm_id").unique(maintain_order=True).join(plain, how="cross", maintain_order="left_right")
    found = compared(steered, beside, items, seed=seed, draws=draws, cells=cells)
    of = pl.lit("") if digests is None else pl.col("profile").replace_strict(dict(digests), default="")
    return found.with_columns(asked=of.cast(pl.String)).select(ProfileChanges.names())


def compared(
    values: pl.DataFrame,
    others: pl.DataFrame,
    items: pl.DataFrame,
    *,
    seed: int,
    draws: int = DRAWS,
    cells: int = CELLS,
) -> pl.DataFrame:
    """Each group of values against the others of its key, metric by metric, item by item, corrected for all rows.

    Args:
        values: rows of `profile_values` by `arm_id`, whatever that names.
        others: what each of these is held against, under the same `arm_id`.
        items: rows of `profile_items`: which cluster an item is of.
        seed: of the exchanges.
        draws: of them, at the least.
        cells: among how many tables like this one a row may have to stand.

    Returns:
        Columns of `profile_changes` but for `asked`; the others' values stand in those named `plain_...`.
    """
    keys = ["arm_id", "profile", "metric"]
    sides = []
    for side, name in ((values, "value"), (others, "value_plain")):
        of_item = side.group_by(*keys, "item_id", maintain_order=True)
        sides.append(of_item.agg(pl.col("value").mean().alias(name)))
    missing, lacking = (
        {tuple(k): v for *k, v in side.group_by(keys).agg(pl.col("value").null_count() / pl.len()).iter_rows()}
        for side in (values, others)
    )
    pairs = (
        sides[0]
        .join(sides[1], on=[*keys, "item_id"], how="left", maintain_order="left")
        .join(items.select("item_id", "cluster"), on="item_id", how="left", maintain_order="left")
        .with_columns(pl.col("cluster").fill_null(pl.col("item_id")))
    )
    steered, unsteered = to_array(pairs["value"]), to_array(pairs["value_plain"])
    clusters = pairs["cluster"].to_numpy().astype(str)
    rows, sums = [], []
    places = pairs.with_row_index("place").group_by(keys, maintain_order=True).agg("place")
    for arm, profile, metric, place in places.iter_rows():
        one, two, of = steered[place], unsteered[place], clusters[place]
        found = paired_contrast(one, two, of)
        both = np.isfinite(one - two)
        spread = float(two[both].std(ddof=1)) if both.sum() > 1 else 0.0
        size = found.difference / spread if found.difference is not None and spread > 0.0 else None
        head = (arm, profile, metric, found.value, found.control_value, found.difference, found.low, found.high, size)
        shares = missing[arm, profile, metric], lacking.get((arm, profile, metric), 1.0)
        rows.append((head, found.n, found.n_clusters, *shares))
        sums.append(cluster_sums(one[both] - two[both], of[both]))
    p = p_of(sums, draws, seed, cells)
    table = [
        (*head, _or_none(a), _or_none(b), bool(b <= LEVEL), n, g, *shares)
        for (head, n, g, *shares), a, b in zip(rows, p, holm(p), strict=True)
    ]
    schema = {name: kind for name, kind in ProfileChanges.dtypes().items() if name != "asked"}
    return pl.DataFrame(table, schema=schema, orient="row")


def changes_between(
    values: pl.DataFrame,
    arm: str,
    other_values: pl.DataFrame,
    other_arm: str,
    items: pl.DataFrame,
    *,
    seed: int = 0,
    draws: int = DRAWS,
) -> pl.DataFrame:
    """One setting of a cell against one of another, or of the same, on the same items.

    Args:
        values: rows of `profile_values` of the one.
        arm: its setting.
        other_values: of the other, which stands in the columns `plain_...`.
        other_arm: its setting.
        items: rows of `profile_items`.
        seed: of the exchanges.
        draws: of them, at the least.

    Returns:
        Rows of `profile_changes`, corrected for all metrics of this comparison.

    Raises:
        SteerworksError: a setting has no value, or the two were asked nothing in common.
    """
    one, other = values.filter(pl.col("arm_id") == arm), other_values.filter(pl.col("arm_id") == other_arm)
    for rows, name in ((one, arm), (other, other_arm)):
        if not rows.height:
            raise SteerworksError(f"setting {name!r} has no value in any profile")
    if not one.join(other, on=["item_id", "metric"], how="semi").height:
        raise SteerworksError("the two were asked nothing in common: run both again, with the same profiles")
    # whatever the first is called, the second stands where the plain model stands
    both = pl.concat([one.with_columns(arm_id=pl.lit("one")), other.with_columns(arm_id=pl.lit(PLAIN))])
    return changes_of(both, items, seed=seed, draws=draws).with_columns(arm_id=pl.lit(arm))


def _of_items(part: pl.DataFrame) -> pl.DataFrame:
    return part.group_by("item_id", maintain_order=True).agg(pl.col("value").mean())


def can_stand(n_tests: int, n_clusters: int) -> bool:
    """Whether any of so many tests could be called different: of g clusters p is 2^(1 - g) at the least."""
    return n_tests * 2.0 ** (1 - n_clusters) <= LEVEL


def cluster_sums(differences: Floats, clusters: NDArray[Any]) -> Floats:
    """Sum of the differences of each cluster: exchanging a cluster turns the sign of its sum."""
    if not len(differences):
        return np.empty(0)
    return np.bincount(np.unique(clusters, return_inverse=True)[1], weights=differences).astype(np.float64)


def p_of(sums: Sequence[Floats], draws: int, seed: int, cells: int = CELLS) -> Floats:
    """Two-sided p of each test, from its cluster sums; fine enough for one to stand among all of that many cells."""
    if not sums:
        return np.empty(0)
    # with fewer draws not even the smallest p of all could be called different, here or among all cells
    draws = max(draws, math.ceil(cells * len(sums) / LEVEL))
    longest = max(map(len, sums))
    wide = np.full((longest, len(sums)), np.nan)
    for k, own in enumerate(sums):
        wide[: len(own), k] = own
    return exchange_p(wide, draws=draws, rng=np.random.default_rng(seed))


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


@dataclass(frozen=True)
class Loss:
    """What an arm loses of a capability.

    Attributes:
        arm_id: the arm.
        position: its strength: arms are ordered by how far they push, |position|.
        loss: mean loss against the plain model; below 0 is a gain; None where nothing is known.
        most: largest loss that it may have, one-sided.
        within: whether that lies below the budget.
        n_clusters: behind it.
    """

    arm_id: str
    position: float
    loss: float | None
    most: float | None
    within: bool
    n_clusters: int


@dataclass(frozen=True)
class Allowed:
    """The strongest arm that a budget allows.

    Attributes:
        arm_id: None where none is.
        looked_at: the arms in order, up to the first that is not borne.
        budget: largest loss that is borne.
    """

    arm_id: str | None
    looked_at: tuple[Loss, ...]
    budget: float


def strongest_within(
    values: pl.DataFrame,
    items: pl.DataFrame,
    positions: dict[str, float],
    *,
    profile: str,
    metric: str,
    budget: float,
    better: int = 1,
    level: float = 0.95,
) -> Allowed:
    """The strongest arm whose loss of a capability is below a budget, with that confidence.

    Args:
        values: rows of `profile_values`.
        items: rows of `profile_items`.
        positions: arm -> strength; only these arms are looked at, from the weakest (by size) on.
        profile: which profile's values.
        metric: the capability.
        budget: largest loss that is borne, in the metric's unit, above 0.
        better: 1 where more of the metric is better, -1 where less is.
        level: one-sided confidence.

    Raises:
        SteerworksError: the budget is not above 0, there is no such profile and metric, or the metric is no share.
    """
    if not budget > 0.0:
        raise SteerworksError(f"a budget of {budget:g}: nothing but an interval of no width lies below it")
    own = values.filter(pl.col("profile") == profile, pl.col("metric") == metric)
    if not own.height:
        raise SteerworksError(f"no value of metric {metric!r} of profile {profile!r}: the budget cannot be held")
    clusters = dict(items.select("item_id", "cluster").iter_rows())
    plain = _of_items(own.filter(pl.col("arm_id") == PLAIN))
    if not ((own["value"] >= 0.0) & (own["value"] <= 1.0)).all():
        raise SteerworksError(
            f"metric {metric!r} of profile {profile!r} goes beyond [0, 1]: what an item can lose is not known, so "
            "no budget can be held against it"
        )
    worst = 0.0 if better > 0 else 1.0
    looked_at, chosen = [], None
    for arm_id, position in sorted(positions.items(), key=lambda a: (abs(a[1]), a[0])):
        pairs = plain.join(
            _of_items(own.filter(pl.col("arm_id") == arm_id)), on="item_id", how="inner", suffix="_steered"
        )
        # what has a value as it is and none under steering is lost
        steered = pairs["value_steered"].fill_null(worst)
        lost = better * (to_array(pairs["value"]) - to_array(steered))
        of = np.array([clusters.get(i, i) for i in pairs["item_id"]], dtype=object).astype(str)
        mean, most, n_clusters = _largest_loss(lost, of, level)
        within = most is not None and most < budget
        looked_at.append(Loss(arm_id, position, mean, most, within, n_clusters))
        if not within:
            break
        chosen = arm_id
    return Allowed(chosen, tuple(looked_at), budget)


def _largest_loss(lost: Floats, clusters: NDArray[Any], level: float) -> tuple[float | None, float | None, int]:
    """Mean loss, the largest that it may be at a one-sided level, and the clusters behind it."""
    known = np.isfinite(lost)
    lost, clusters = lost[known], clusters[known]
    if not len(lost):
        return None, None, 0
    labels = np.unique(clusters)
    one_more = np.ones(round(len(lost) / len(labels)))
    found = clustered_mean(
        np.concatenate([lost, one_more]), np.concatenate([clusters, np.full(len(one_more), "\0added")]), level=level
    )
    return float(lost.mean()), found.high, len(labels)
