"""Whether confidence means what it says: calibration errors and Brier scores of stored option scores.

Two reports of "the ECE" of one model differ by the normalisation, what is called confidence, the number of bins and how
they are cut. All four stand in every result here.

1. Probabilities are the softmax of an item's normalised option scores. Confidence is the largest of them (`max`), or
   that of the right option (`gold`), which some programs report: a calibrated model does not score 0 on the latter.
2. Bins: equal width over (0, 1], closed on the right (Guo et al. 2017), or equal mass, equal confidences never parted.
   ECE = sum_b |sum_{i in b} (confidence_i - correct_i)| / n.
3. The plug-in is biased upwards, most where a model is calibrated. `debiased` subtracts the bias that normal noise of
   the bins' accuracies brings (the estimator of Kumar, Liang and Ma 2019, in closed form instead of by draws);
   `squared_debiased` is their unbiased squared error (also Broecker 2012; Ferro and Fricker 2012).
4. The interval is a bootstrap of clusters with the bins as they are. A percentile interval never holds 0 and calls
   every calibrated model miscalibrated. The lower end here is the plug-in less a quantile of the L1 distance between
   drawn and observed bins: by the triangle inequality that distance is at least the error of the plug-in, and under
   calibration it is the plug-in itself. The upper end adds what the draws rise above their own mean.
5. `p` is that of a calibrated model: outcomes drawn from the confidences (consistency resampling; Broecker and Smith
   2007), items independent. None for `gold`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from steer_core.evaluation.profiles.options import Normalisation, decided, normalised
from steer_core.statistics import Estimate, clustered_mean, clustered_share, resample_counts
from steer_core.tables import SteerworksError

Floats = NDArray[np.float64]
Bins = NDArray[np.intp]
Confidence = Literal["max", "gold"]
Scheme = Literal["width", "mass"]
BrierKind = Literal["all", "top"]

#: Numbers of bins that are reported.
BINS = (1, 10, 15)
#: Largest number of draws times items held at a time.
BLOCK = 1_000_000


@dataclass(frozen=True)
class CalibrationError:
    """One calibration error with all that it depends on.

    Attributes:
        estimate: the plug-in, with its interval.
        debiased: less its bias; may fall below 0; None where a bin holds a single item, whose spread nothing tells.
        squared_debiased: unbiased squared error; None in the same case.
        p: how often a calibrated model has an error as large; None where confidence is `gold`.
        normalisation: of the option scores; None where the confidences were given.
        confidence: what is called confidence.
        scheme: how bins are cut.
        bins: how many were asked for.
        bins_used: how many hold an item.
        draws: behind interval and p.
        level: coverage asked of the interval.
    """

    estimate: Estimate
    debiased: float | None
    squared_debiased: float | None
    p: float | None
    normalisation: Normalisation | None
    confidence: Confidence
    scheme: Scheme
    bins: int
    bins_used: int
    draws: int
    level: float


@dataclass(frozen=True)
class Brier:
    """A Brier score, an unbiased mean as it is: `all` sums over options (0 to 2), `top` is of the answer (0 to 1)."""

    estimate: Estimate
    normalisation: Normalisation
    kind: BrierKind


def confidences(options: pl.DataFrame, normalisation: Normalisation, confidence: Confidence = "max") -> pl.DataFrame:
    """What each scored item was answered, and how surely.

    Args:
        options: columns `options.COLUMNS`.
        normalisation: of the scores before the softmax.
        confidence: `max`, or `gold`.

    Returns:
        Columns `item_id`, `cluster`, `confidence`, `correct` (a tied gold counts its share), `brier_all`, `brier_top`;
        an item without scores, or with -inf throughout, is left out.

    Raises:
        SteerworksError: the table is none, or an argument is unknown.
    """
    if confidence not in get_args(Confidence):
        raise SteerworksError(f"confidence {confidence!r}: `max` or `gold`")
    weight = (pl.col("score") - pl.col("score").max().over("item_id")).exp()
    scored = normalised(options, normalisation).with_columns(p=weight / weight.sum().over("item_id"))
    gold, top = pl.col("p").filter(pl.col("gold")).first(), pl.col("p").max()
    items = scored.group_by("item_id", maintain_order=True).agg(
        confidence=top if confidence == "max" else gold,
        brier_all=((pl.col("p") - pl.col("gold").cast(pl.Float64)) ** 2).sum(),
        top=top,
    )
    answers = decided(options, normalisation).select("item_id", "cluster", "correct").drop_nulls()
    # of a tied answer: the mean over a fair draw
    right = pl.col("correct")
    brier_top = right * (1.0 - pl.col("top")) ** 2 + (1.0 - right) * pl.col("top") ** 2
    found = answers.join(items, on="item_id", how="inner", maintain_order="left").with_columns(brier_top=brier_top)
    return found.filter(pl.col("confidence").is_not_nan()).drop("top")


def bin_of(confidence: Floats, bins: int, scheme: Scheme) -> Bins:
    """Bin of each confidence [n], counted from 0.

    Raises:
        SteerworksError: `bins` is below 1, there is no such scheme, or a confidence lies outside [0, 1].
    """
    if bins < 1 or scheme not in get_args(Scheme):
        raise SteerworksError(f"{bins} bins, scheme {scheme!r}: at least one bin, by `width` or by `mass`")
    if not ((confidence >= 0.0) & (confidence <= 1.0)).all():
        raise SteerworksError("a confidence outside [0, 1]")
    if scheme == "width":
        return np.searchsorted(np.arange(1, bins) / bins, confidence, side="left")
    below = np.searchsorted(np.sort(confidence), confidence, side="left")
    return np.asarray(below * bins // max(len(confidence), 1), dtype=np.intp)


def calibration_error(
    confidence: Floats,
    correct: Floats,
    clusters: NDArray[Any],
    *,
    bins: int,
    scheme: Scheme,
    draws: int,
    rng: np.random.Generator,
    level: float = 0.95,
    kind: Confidence = "max",
    normalisation: Normalisation | None = None,
) -> CalibrationError:
    """Expected calibration error of given confidences; the last two arguments only name what they are.

    Args:
        confidence: in [0, 1], shape [n].
        correct: in [0, 1], shape [n].
        clusters: label of what is drawn together, shape [n].
        bins: number of bins.
        scheme: how they are cut.
        draws: of the bootstrap, and of the calibrated model.
        rng: source of the draws.
        level: coverage asked of the interval.
        kind: what `confidence` is.
        normalisation: of the scores behind it.

    Raises:
        SteerworksError: see `bin_of`; lengths differ, a `correct` lies outside [0, 1], or there is no draw.
    """
    n = len(confidence)
    if not n == len(correct) == len(clusters) or draws < 1 or not 0.0 < level < 1.0:
        raise SteerworksError(
            "confidence, correct and clusters of one length, a draw, and a level in (0, 1) are needed"
        )
    if not ((correct >= 0.0) & (correct <= 1.0)).all():
        raise SteerworksError("a `correct` outside [0, 1]")
    used, owner = np.unique(bin_of(confidence, bins, scheme), return_inverse=True)
    if n == 0:
        empty = Estimate(None, None, None, 0, 0)
        return CalibrationError(empty, None, None, None, normalisation, kind, scheme, bins, 0, draws, level)
    debiased, squared = _debiased(confidence - correct, correct, owner)
    return CalibrationError(
        estimate=_interval(confidence - correct, owner, clusters, draws, rng, level),
        debiased=debiased,
        squared_debiased=squared,
        p=_calibrated_p(confidence, correct, owner, draws, rng) if kind == "max" else None,
        normalisation=normalisation,
        confidence=kind,
        scheme=scheme,
        bins=bins,
        bins_used=len(used),
        draws=draws,
        level=level,
    )


def _debiased(gaps: Floats, correct: Floats, owner: Bins) -> tuple[float | None, float | None]:
    from scipy.special import ndtr

    size = np.bincount(owner).astype(np.float64)
    if (size < 2).any():
        return None, None
    gap = np.bincount(owner, weights=gaps) / size
    rate = np.bincount(owner, weights=correct) / size
    variance = np.maximum(np.bincount(owner, weights=correct**2) / size - rate**2, 0.0)
    error = np.sqrt(variance / size)
    # mean of |N(gap, error)|: the folded normal
    ratio = np.divide(np.abs(gap), error, out=np.full_like(gap, np.inf), where=error > 0.0)
    folded = error * np.sqrt(2.0 / np.pi) * np.exp(-(ratio**2) / 2.0) + np.abs(gap) * (1.0 - 2.0 * ndtr(-ratio))
    share = size / size.sum()
    plain = 2.0 * (share * np.abs(gap)).sum() - (share * folded).sum()
    return float(plain), float((share * (gap**2 - variance / (size - 1.0))).sum())


def _interval(
    gaps: Floats, owner: Bins, clusters: NDArray[Any], draws: int, rng: np.random.Generator, level: float
) -> Estimate:
    n = len(gaps)
    labels, cluster_of = np.unique(clusters, return_inverse=True)
    shape = (len(labels), owner.max() + 1)
    sums = np.bincount(cluster_of * shape[1] + owner, weights=gaps, minlength=shape[0] * shape[1]).reshape(shape) / n
    sizes = np.bincount(cluster_of) / n
    observed = sums.sum(axis=0)  # [bins]
    value = float(np.abs(observed).sum())
    if len(labels) < 2:
        return Estimate(value, None, None, n, len(labels))
    distances, errors = [], []
    for block in _blocks(draws, len(labels)):
        counts = resample_counts(len(labels), block, rng).astype(np.float64)
        drawn = counts @ sums / (counts @ sizes)[:, None]  # [draws, bins]
        errors.append(np.abs(drawn).sum(axis=1))
        distances.append(np.abs(drawn - observed).sum(axis=1))
    every, tail = np.concatenate(errors), (1.0 + level) / 2.0
    low = max(value - float(np.quantile(np.concatenate(distances), tail)), 0.0)
    return Estimate(value, low, min(value + float(np.quantile(every, tail) - every.mean()), 1.0), n, len(labels))


def _calibrated_p(confidence: Floats, correct: Floats, owner: Bins, draws: int, rng: np.random.Generator) -> float:
    order = np.argsort(owner, kind="stable")
    sure = confidence[order]
    starts = np.searchsorted(owner[order], np.arange(owner.max() + 1))
    observed = np.abs(np.add.reduceat(sure - correct[order], starts)).sum()
    as_large = 0
    for block in _blocks(draws, len(sure)):
        gaps = sure - (rng.random((block, len(sure))) < sure)
        drawn = np.abs(np.add.reduceat(gaps, starts, axis=1)).sum(axis=1)
        as_large += int((drawn >= observed * (1.0 - 1e-12)).sum())
    return (1 + as_large) / (1 + draws)


def _blocks(draws: int, width: int) -> Iterator[int]:
    step = max(BLOCK // width, 1)
    for start in range(0, draws, step):
        yield min(step, draws - start)


def reliability_diagram(
    confidence: Floats, correct: Floats, clusters: NDArray[Any], *, bins: int, scheme: Scheme, level: float = 0.95
) -> pl.DataFrame:
    """Rows of a reliability diagram, one a bin that holds an item.

    Returns:
        Columns `bin`, `n`, `lowest` and `highest` (confidence in the bin), `confidence` (mean), `accuracy`, `low`,
        `high` (its clustered interval).
    """
    owner = bin_of(confidence, bins, scheme)
    rows = []
    for b in np.unique(owner):
        own = owner == b
        found = clustered_share(correct[own], clusters[own], level=level)
        sure = confidence[own]
        ends = {"lowest": float(sure.min()), "highest": float(sure.max()), "confidence": float(sure.mean())}
        rows.append(
            {"bin": int(b), "n": found.n, **ends, "accuracy": found.value, "low": found.low, "high": found.high}
        )
    kinds = {"bin": pl.Int64, "n": pl.Int64}
    figures = ("lowest", "highest", "confidence", "accuracy", "low", "high")
    return pl.DataFrame(rows, schema=kinds | dict.fromkeys(figures, pl.Float64))


def brier(
    options: pl.DataFrame, normalisation: Normalisation, kind: BrierKind = "all", *, level: float = 0.95
) -> Brier:
    """Mean Brier score (1950) with its clustered interval.

    Raises:
        SteerworksError: the table is none, or there is no such kind.
    """
    if kind not in get_args(BrierKind):
        raise SteerworksError(f"Brier score of {kind!r}: `all` options, or the `top` one")
    items = confidences(options, normalisation)
    estimate = clustered_mean(items[f"brier_{kind}"].to_numpy(), items["cluster"].to_numpy(), level=level)
    return Brier(estimate, normalisation, kind)
