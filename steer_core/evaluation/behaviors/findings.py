"""What a sweep says as a whole, for each set of layers and positions, group of items and measure.

* `slope`: least-squares slope of each item's score on strength, mean over items (Tan et al. 2024).
  `anti_steerable`: share of items whose slope is below 0. `spearman`: rank correlation of the arms' means with
  strength, from three strengths on. The unsteered arm is in none of the three: it has no strength in every unit.
* `effect_low`, `effect_high`: paired difference to the unsteered arm at the smallest and the largest strength; of
  another behavior's measure the same is called `entanglement_low`, `entanglement_high`, with its sign.
* `p_random_low`, `p_random_high` (and `p_shuffled_...`): two-sided rank p of the effect's size among those of the
  controls, (1 + controls that move the measure as far, either way) / (1 + controls). A vector that is itself a random
  direction has p <= .05 in at most 5 % of worlds; with fewer than 19 controls no p is that small.
* `ratio_low`, `ratio_high`: of perplexity, geometric mean of steered / unsteered.
* `asked_high`, `over_asked_high`, `wins_asked_high` ...: the vector beside asking for the same (`beside_asking`).
* `transfer`, `seeds_high` ...: whether it holds for other items and for other seeds of the fit (`reliability`).
* `selectivity`: share of all that moves from end to end that is the behavior itself (see `side_effects.selectivity`).

Items are the unit: samples and seeds of an item are averaged first, intervals are over items: t for means (of logs for
ratios), exact for shares, jackknife for selectivity, a bootstrap for the rank correlation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from schemas.sweeps import SweepFindings
from steer_core.evaluation.behaviors.beside_asking import beside_asking
from steer_core.evaluation.behaviors.reliability import seed_spread, transfer
from steer_core.evaluation.behaviors.side_effects import JUDGED, OTHER, selectivity
from steer_core.statistics import clustered_mean, clustered_share, expanded_interval, rank_p, resample_counts

Floats = NDArray[np.float64]
Row = dict[str, Any]

#: Measures of the behavior itself: what a vector is meant to move, upwards with strength.
TARGETS = frozenset({JUDGED, "propensity", "propensity_per_token", "p_positive", "refused"})
#: Group of items that is there to see what else breaks, and the one that a behavior is about.
NEUTRAL, MAIN = "neutral", "main"
#: Columns of arms that asking in words is told from.
ASKED = ("side", "turns", "interventions")
#: Strengths from which a rank correlation says something.
LEAST_STRENGTHS = 3


@dataclass(frozen=True)
class _Curve:
    """One measure of one sweep, items by strengths.

    Attributes:
        items: those with a value in any arm, sorted.
        strengths: rising, shape [k].
        values: mean over samples and seeds, shape [items, k]; NaN where undefined.
        off: of the unsteered arm, shape [items].
        controls: (role, strength) -> shape [items, number of controls].
        counts: how often each item occurs in each bootstrap draw, shape [draws, items].
        unit: of the strengths.
    """

    items: tuple[str, ...]
    strengths: Floats
    values: Floats
    off: Floats
    controls: Mapping[tuple[str, float], Floats]
    counts: Floats
    unit: str


def find(arms: pl.DataFrame, scores: pl.DataFrame, off: Mapping[str, str], *, draws: int, seed: int) -> pl.DataFrame:
    """Rows of `sweep_findings`.

    Args:
        arms: rows of `sweep_arms`.
        scores: rows of `arm_scores`.
        off: behavior -> id of its unsteered arm.
        draws: bootstrap resamples.
        seed: seed of the resamples.
    """
    settings = (
        arms.filter(pl.col("role") == "vector").select("behavior", "layers", "positions").unique(maintain_order=True)
    )
    measured = scores.join(
        arms.select("arm_id", "behavior", "role", "layers", "positions", "strength", "unit", "seed", *ASKED),
        on="arm_id",
        maintain_order="left",
    )
    rows = []
    for behavior, layers, positions in settings.iter_rows():
        here = measured.filter(
            (pl.col("behavior") == behavior)
            & (
                (pl.col("arm_id") == off[behavior])
                | ((pl.col("layers") == layers) & (pl.col("positions") == positions))
            )
        )
        parts = here.partition_by(["group"], as_dict=True, maintain_order=True)
        # the main set first: others are held against it
        slopes: dict[str, Floats] = {}
        for (group,), in_group in sorted(parts.items(), key=lambda part: part[0][0] != MAIN):
            curves = dict(_curves(in_group, draws, seed))
            head = {"behavior": behavior, "layers": layers, "positions": positions, "group": group}
            for measure, curve in curves.items():
                rows += [{**head, "measure": measure, **row} for row in _of_measure(measure, str(group), curve)]
            rows += [{**head, "measure": JUDGED, **row} for row in _selectivity(curves)]
            if group != NEUTRAL:
                asked = measured.filter(
                    pl.col("behavior") == behavior, pl.col("role") == "prompt", pl.col("group") == group
                )
                both = pl.concat([in_group, asked])
                for measure in sorted(TARGETS & set(both["measure"])):
                    found = [
                        *beside_asking(both, off[behavior], measure),
                        *seed_spread(in_group, off[behavior], measure),
                    ]
                    own = curves.get(measure)
                    if own is not None and len(own.strengths) > 1:
                        mine = item_slopes(own.strengths, own.values)
                        if group == MAIN:
                            slopes[measure] = mine
                        elif measure in slopes:
                            found += transfer(mine, slopes[measure], measure, str(group))
                    rows += [{**head, "measure": measure, **row} for row in found]
    return pl.DataFrame(rows, schema=SweepFindings.empty().schema, orient="row")


def _curves(rows: pl.DataFrame, draws: int, seed: int) -> Iterator[tuple[str, _Curve]]:
    """Curve of each measure that steered arms have; the draws are those of the arms' own summaries."""
    for (measure,), part in sorted(rows.partition_by(["measure"], as_dict=True).items(), key=str):
        steered = part.filter(pl.col("role") == "vector")
        if not steered.height:
            continue
        # a measure without a single value is still told of: as undefined
        items = sorted(set(part.drop_nulls("value")["item_id"])) or sorted(set(part["item_id"]))
        counts = resample_counts(len(items), draws, np.random.default_rng(seed)).astype(np.float64)
        strengths = sorted(set(steered["strength"]))
        controls: dict[tuple[str, float], Floats] = {}
        for (role, strength), arms in (
            part.filter(pl.col("role").is_in(["random", "shuffled"]))
            .partition_by(["role", "strength"], as_dict=True)
            .items()
        ):
            per_arm = [_by_item(a, items) for a in arms.partition_by("arm_id", maintain_order=True)]
            controls[str(role), float(strength)] = np.column_stack(per_arm)
        yield (
            str(measure),
            _Curve(
                tuple(items),
                np.array(strengths),
                np.column_stack([_by_item(steered.filter(pl.col("strength") == s), items) for s in strengths]),
                _by_item(part.filter(pl.col("role") == "off"), items),
                controls,
                counts,
                str(steered["unit"][0]),
            ),
        )


def _by_item(rows: pl.DataFrame, items: Sequence[str]) -> Floats:
    """Mean of each item, shape [items]; NaN where it has no value."""
    means = dict(rows.drop_nulls("value").group_by("item_id").agg(pl.col("value").mean()).iter_rows())
    return np.array([means.get(i, np.nan) for i in items], dtype=np.float64)


def _of_measure(measure: str, group: str, curve: _Curve) -> Iterator[Row]:
    if measure in TARGETS and group != NEUTRAL:
        yield from _trend(measure, curve)
    prefix = "entanglement" if measure.startswith(OTHER) else "effect"
    for end, k in _ends(curve):
        strength = f"{curve.strengths[k]:g} ({curve.unit})"
        differences = curve.values[:, k] - curve.off
        effect = _mean(differences)
        yield _row(
            f"{prefix}_{end}", effect, f"{measure} at strength {strength} minus unsteered: {_signed(effect.value)}"
        )
        if measure == "perplexity":
            ratio = _ratio(curve.values[:, k], curve.off)
            yield _row(f"ratio_{end}", ratio, f"perplexity at strength {strength} over unsteered, geometric mean")
        if measure in TARGETS and group != NEUTRAL:
            for role in ("random", "shuffled"):
                if (role, curve.strengths[k]) in curve.controls:
                    others = curve.controls[role, curve.strengths[k]] - curve.off[:, None]
                    yield _rank(f"p_{role}_{end}", role, differences, others)


def _ends(curve: _Curve) -> list[tuple[str, int]]:
    """The ends of the strengths; a single strength is the high one."""
    last = len(curve.strengths) - 1
    return [("low", 0), ("high", last)] if last else [("high", 0)]


@dataclass(frozen=True)
class _Figure:
    value: float | None
    low: float | None
    high: float | None
    n: int


def _row(finding: str, figure: _Figure, detail: str) -> Row:
    return {
        "finding": finding,
        "value": figure.value,
        "low": figure.low,
        "high": figure.high,
        "n": figure.n,
        "detail": detail,
    }


def _means(values: Floats, counts: Floats) -> Floats:
    """Weighted means over defined items: values [items, k], counts [draws, items] -> [draws, k]; NaN where none is."""
    defined = ~np.isnan(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (counts @ np.where(defined, values, 0.0)) / (counts @ defined.astype(np.float64))


def _figure(values: Floats, counts: Floats, statistic: Callable[[Floats], Floats]) -> _Figure:
    """A statistic of the columns' means, with its interval.

    Args:
        values: shape [items, k].
        counts: shape [draws, items].
        statistic: means of shape [draws, k] to figures of shape [draws].
    """
    n = int((~np.isnan(values)).any(axis=1).sum())
    if not n:
        return _Figure(None, None, None, 0)
    point = float(statistic(_means(values, np.ones((1, len(values)))))[0])
    if not np.isfinite(point):
        return _Figure(None, None, None, n)
    if n < 2:
        return _Figure(point, None, None, n)
    sampled = statistic(_means(values, counts))
    return _Figure(point, *expanded_interval(sampled[np.isfinite(sampled)], n - 1), n)


def _mean(values: Floats) -> _Figure:
    found = clustered_mean(values, np.arange(len(values)))
    return _Figure(found.value, found.low, found.high, found.n)


def _ratio(values: Floats, off: Floats) -> _Figure:
    with np.errstate(invalid="ignore", divide="ignore"):
        logs = np.log(values) - np.log(off)
    found = _mean(np.where(np.isfinite(logs), logs, np.nan))
    value, low, high = (None if v is None else float(np.exp(v)) for v in (found.value, found.low, found.high))
    return _Figure(value, low, high, found.n)


def _trend(measure: str, curve: _Curve) -> Iterator[Row]:
    slopes = item_slopes(curve.strengths, curve.values)
    slope = _mean(slopes)
    if len(curve.strengths) > 1:
        yield _row("slope", slope, f"{measure} changes by {_signed(slope.value)} for 1 of strength ({curve.unit})")
        negative = np.where(np.isnan(slopes), np.nan, (slopes < 0.0).astype(np.float64))
        counted = clustered_share(negative, np.arange(len(slopes)))
        against = _Figure(counted.value, counted.low, counted.high, counted.n)
        share = "-" if against.value is None else f"{against.value:.0%}"
        yield _row("anti_steerable", against, f"{share} of the items move against the vector")
    if len(curve.strengths) >= LEAST_STRENGTHS:
        ranked = _figure(curve.values, curve.counts, lambda means: rank_correlation(means, curve.strengths))
        yield _row("spearman", ranked, f"rank correlation over {len(curve.strengths)} strengths")


def item_slopes(strengths: Floats, values: Floats) -> Floats:
    """Least-squares slope of each item's values on strength; NaN with fewer than two defined.

    Args:
        strengths: shape [k].
        values: shape [items, k], NaN where undefined.
    """
    defined = ~np.isnan(values)
    n = defined.sum(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        x = np.where(defined, strengths - (defined * strengths).sum(axis=1, keepdims=True) / n, 0.0)
        slopes = (x * np.where(defined, values, 0.0)).sum(axis=1) / (x * x).sum(axis=1)
    return np.where(n[:, 0] >= 2, slopes, np.nan)


def rank_correlation(means: Floats, strengths: Floats) -> Floats:
    """Spearman's rank correlation of each row of means [draws, k] with strength; NaN where a row is constant."""
    from scipy.stats import rankdata  # a second to import, and the definitions load this module

    ranks = rankdata(means, axis=1) - (len(strengths) + 1) / 2.0
    ranks[np.isnan(means).any(axis=1)] = np.nan
    order = rankdata(strengths) - (len(strengths) + 1) / 2.0
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(ranks @ order / np.sqrt((ranks**2).sum(axis=1) * (order @ order)))


def _rank(finding: str, role: str, differences: Floats, others: Floats) -> Row:
    """Where the vector's effect stands among those of its controls, by size."""
    everything = _means(np.column_stack([differences, others]), np.ones((1, len(differences))))[0]
    effect, controls = float(everything[0]), everything[1:]
    n = int(np.isfinite(controls).sum())
    kind = "random directions" if role == "random" else "vectors of shuffled labels"
    as_far = int((np.abs(controls[np.isfinite(controls)]) >= abs(effect)).sum())
    detail = f"{as_far} of {n} {kind} move it as far or farther, either way"
    return _row(finding, _Figure(rank_p(effect, controls), None, None, n), detail)


def _selectivity(curves: Mapping[str, _Curve]) -> Iterator[Row]:
    others = [m for m in curves if m.startswith(OTHER)]
    if JUDGED not in curves or not others:
        return
    moved = np.column_stack([_end_to_end(curves[m], curves[JUDGED].items) for m in (JUDGED, *others)])  # [items, k]

    def share(rows: Floats) -> float:
        means = _means(rows, np.ones((1, len(rows))))[0]
        found = selectivity(float(means[0]), [float(v) for v in means[1:]])
        return np.nan if found is None else found

    names = ", ".join(m.removeprefix(OTHER) for m in others)
    yield _row(
        "selectivity",
        _jackknife(moved, share),
        f"share of what moves from end to end that is the behavior itself; beside: {names}",
    )


def _jackknife(rows: Floats, statistic: Callable[[Floats], float]) -> _Figure:
    """A statistic of rows [items, k] with the delete-one jackknife's t interval (Efron and Tibshirani 1993, ch. 11)."""
    from scipy.special import stdtrit

    known = rows[(~np.isnan(rows)).any(axis=1)]
    n = len(known)
    point = statistic(known) if n else float("nan")
    if not np.isfinite(point):
        return _Figure(None, None, None, n)
    without = np.array([statistic(np.delete(known, i, axis=0)) for i in range(n)]) if n > 1 else np.empty(0)
    if n < 2 or not np.isfinite(without).all():
        return _Figure(point, None, None, n)
    error = float(np.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum()))
    width = float(stdtrit(n - 1, 0.975)) * error
    return _Figure(point, max(point - width, 0.0), min(point + width, 1.0), n)


def _end_to_end(curve: _Curve, items: Sequence[str]) -> Floats:
    """How far each of these items moves from one end of the strengths to the other, shape [items]."""
    moved = curve.values[:, -1] - (curve.values[:, 0] if len(curve.strengths) > 1 else curve.off)
    by_item = dict(zip(curve.items, moved, strict=True))
    return np.array([by_item.get(i, np.nan) for i in items], dtype=np.float64)


def _signed(value: float | None) -> str:
    return "undefined" if value is None else f"{value:+.3g}"
