"""A trait read instead of written: how well its direction tells answers apart, at every layer and reading.

1. A direction is the mean difference of the contrast examples at a layer, which is the vector that writes, or that
   difference under the inverse of the classes' common covariance (`discriminant`: Fisher 1936, shrunk as in Ledoit and
   Wolf 2004), which leaves out what varies anyway. Of unit length; an example's score is its activation along it, from
   the middle between the classes.
2. Score to probability is a logistic curve, fitted on scores that each example gets from a direction that was fitted
   without its fold: with fewer examples than dimensions a direction parts its own examples at nearly every layer.
3. Figures are of examples that were in no fit. Intervals cluster by pair. With labels that say nothing the AUROC is .5
   within its interval in 95 % of cases.

What is found is a `Detector`, which scores texts that nobody labelled: see `watching`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from schemas.contrasts import ContrastExamples
from schemas.detection import Detections
from schemas.digest import digest_text
from steer_core.models.loading import LoadedModel
from steer_core.statistics import Estimate, auroc, auroc_interval, clustered_mean, clustered_share
from steer_core.steering.sites import find_sites
from steer_core.tables.errors import SteerworksError
from steer_core.vectors.activations import collect
from steer_core.vectors.encoding import Read, encode_examples, fitting
from steer_core.vectors.evidence import Point

#: Bumped when the same examples give other figures.
VERSION = "2"
Floats = NDArray[np.float64]
#: How a direction is taken from two classes.
Direction = Literal["mean_difference", "discriminant"]
#: Groups that the fitted pairs are dealt into.
FOLDS = 5
#: Bins of equal mass of the expected calibration error.
BINS = 10


@dataclass(frozen=True)
class Detector:
    """What reads a trait off activations.

    Attributes:
        concept: the trait.
        layer: 0-based layer whose residual stream is read.
        read: positions that are read, their mean.
        direction: of unit length, shape [width].
        middle: where the two classes' middle lies along it: scores are counted from there.
        slope, intercept: probability of the trait is 1 / (1 + exp(-(slope * score + intercept))).
        model: fingerprint of the model.
    """

    concept: str
    layer: int
    read: Read
    direction: NDArray[np.float32]
    middle: float
    slope: float
    intercept: float
    model: str

    @property
    def threshold(self) -> float:
        """Score from which the trait is likelier than not."""
        return -self.intercept / self.slope if self.slope else float("inf")

    def score(self, activations: Floats) -> Floats:
        """Scores of activations, [n, width] to [n]."""
        return np.asarray(activations @ self.direction.astype(np.float64) - self.middle)

    def probability(self, scores: Floats) -> Floats:
        """Probability of the trait, shape of the scores."""
        return np.asarray(1.0 / (1.0 + np.exp(-np.clip(self.slope * scores + self.intercept, -500.0, 500.0))))


@dataclass(frozen=True)
class Detected:
    """What was found at all layers and readings.

    Attributes:
        figures: rows of `detections`.
        detectors: (layer, reading, direction) -> detector.
    """

    figures: pl.DataFrame
    detectors: Mapping[tuple[int, Read, Direction], Detector]

    def best(self) -> Detector:
        """The detector with the highest AUROC on fitted examples by folds: chosen without the tested ones."""
        row = self.figures.sort("fitted_auroc", "layer", descending=[True, False]).row(0, named=True)
        return self.detectors[row["layer"], row["read"], row["direction"]]


def sides_of(concept: str, examples: pl.DataFrame, items: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What a behavior is fitted and tested on: its training examples with an answer, and the two answers of its items.

    Args:
        concept: the behavior.
        examples: rows of `contrast_examples`.
        items: rows of `behavior_items`; those to choose from are taken, but for the neutral ones.

    Returns:
        Rows of `contrast_examples`, fitted and tested; either may be empty.
    """
    own = pl.col("concept") == concept
    fitted = examples.filter(own, pl.col("split") == "train", pl.col("answer") != "")
    chosen = items.filter(pl.col("behavior") == concept, pl.col("form") != "open", pl.col("group") != "neutral")
    sides = [
        chosen.select(
            example_id=pl.format("{}:{}", "item_id", pl.lit(label)),
            concept=pl.lit(concept),
            kind=pl.lit("item"),
            split=pl.lit("test"),
            pair_id=pl.col("item_id"),
            label=pl.lit(label, pl.Int64),
            messages=pl.col("messages"),
            answer=pl.col(side),
            letter=pl.lit(None, pl.String),
            source=pl.col("source"),
            row=pl.col("row"),
        )
        for label, side in ((1, "positive"), (0, "negative"))
    ]
    tested = pl.concat(sides).select(ContrastExamples.names()).cast(dict(ContrastExamples.dtypes()))  # type: ignore[arg-type]
    return fitted, tested


def detect(
    loaded: LoadedModel,
    fitted: pl.DataFrame,
    tested: pl.DataFrame,
    *,
    layers: Sequence[int] | None = None,
    reads: Sequence[Read] = ("answer",),
    directions: Sequence[Direction] = ("mean_difference", "discriminant"),
    seed: int = 0,
) -> Detected:
    """Directions of a concept at every layer and reading, and how well they tell examples apart that they never saw.

    Args:
        loaded: the model.
        fitted: rows of `contrast_examples` of one concept.
        tested: further ones of it, with other pairs.
        layers: 0-based; None: all.
        reads: where activations are read.
        directions: how a direction is taken.
        seed: deals the pairs into folds.

    Raises:
        SteerworksError: several concepts, pairs on both sides, fewer than two pairs on a side, or one class only.
    """
    fitted, tested = _checked(loaded, fitted, tested)
    points = [Point(k) for k in (range(len(find_sites(loaded.model).layers)) if layers is None else layers)]
    concept, fingerprint = str(fitted["concept"][0]), loaded.fingerprint
    rows: list[tuple[Any, ...]] = []
    detectors: dict[tuple[int, Read, Direction], Detector] = {}
    labels = [side["label"].to_numpy() == 1 for side in (fitted, tested)]
    pairs = [side["pair_id"].to_list() for side in (fitted, tested)]
    folds = _folds(pairs[0], seed)
    for read in reads:
        own, other = (activations_of(loaded, side, points, read) for side in (fitted, tested))
        for point, how in product(points, directions):
            x = own[point]
            held = _held_out(x, labels[0], folds, how)
            slope, intercept = _logistic(held, labels[0])
            direction, middle = _direction(x, labels[0], how)
            head = (concept, point.layer, read)
            found = Detector(*head, direction.astype(np.float32), middle, slope, intercept, fingerprint)
            detectors[point.layer, read, how] = found
            scores = found.score(other[point])
            tried = (how, auroc(held[labels[0]], held[~labels[0]]))
            rows.append((*head, *tried, *_figures(found, scores, labels[1], pairs[1]), fitted.height, tested.height))
    return Detected(pl.DataFrame(rows, schema=Detections.dtypes(), orient="row"), detectors)


def _checked(loaded: LoadedModel, fitted: pl.DataFrame, tested: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    concepts = sorted({*fitted["concept"], *tested["concept"]})
    if len(concepts) != 1:
        raise SteerworksError(
            f"a detector is of one concept, and the examples are of {len(concepts)}: {', '.join(concepts)}"
        )
    sides = []
    for rows, name in ((fitted, "fitted"), (tested, "tested")):
        kept = fitting(loaded, rows, lambda _: None)
        if kept["pair_id"].n_unique() < 2 or kept["label"].n_unique() < 2:
            raise SteerworksError(
                f"concept {concepts[0]!r}: {kept['pair_id'].n_unique()} pairs and {kept['label'].n_unique()} classes "
                f"are {name}; two of each are needed"
            )
        sides.append(kept)
    if both := set(sides[0]["pair_id"]) & set(sides[1]["pair_id"]):
        raise SteerworksError(
            f"concept {concepts[0]!r}: {len(both)} pairs are fitted and tested: nothing would be shown"
        )
    return sides[0], sides[1]


def activations_of(
    loaded: LoadedModel, examples: pl.DataFrame, points: Sequence[Point], read: Read
) -> dict[Point, Floats]:
    """Activations of examples at points, each of shape [examples, width].

    Raises:
        SteerworksError: an example cannot be encoded, or a point does not exist.
    """
    encoded = encode_examples(loaded, examples, [read])[read]
    found = {p: np.zeros((examples.height, find_sites(loaded.model).width)) for p in points}
    for batch in collect(loaded, encoded, points):
        for point, rows in batch.rows.items():
            found[point][batch.indices] = rows
    return found


def _folds(pairs: Sequence[str], seed: int) -> NDArray[np.int64]:
    """Fold of each example: those of a pair stay together, and folds are equally large."""
    order = sorted(set(pairs), key=lambda p: digest_text(f"fold:{seed}:{p}"))
    place = {pair: k % FOLDS for k, pair in enumerate(order)}
    return np.array([place[p] for p in pairs])


def _direction(x: Floats, labels: NDArray[np.bool_], how: Direction) -> tuple[Floats, float]:
    """A direction of unit length, and where the middle of the classes lies along it."""
    one, other = x[labels].mean(axis=0), x[~labels].mean(axis=0)
    difference = one - other
    if how == "discriminant":
        within = np.concatenate([x[side] - x[side].mean(axis=0) for side in (labels, ~labels)])
        if within.any():
            difference = _whitened(within, difference)
    length = float(np.linalg.norm(difference))
    unit = np.asarray(difference / length if length > 0.0 else difference)
    return unit, float((one + other) / 2.0 @ unit)


def _whitened(within: Floats, difference: Floats) -> Floats:
    """The inverse shrunk covariance of centred rows [n, d] times a vector [d]: Ledoit and Wolf 2004, through the rows.

    With S = X^T X / n, mu = tr S / d and the share s of mu I, the covariance is (1 - s) S + s mu I. All of its numbers
    follow from the n by n products of rows, so that fewer rows than dimensions cost n^2 d and not d^3.
    """
    n, d = within.shape
    products = within @ within.T  # [n, n]
    trace, squares = float(products.trace()) / n, float((products**2).sum()) / n**2
    mean = trace / d
    spread = (squares - 2.0 * mean * trace + d * mean**2) / d
    noise = min(max((float((np.diag(products) ** 2).sum()) / n - squares) / (d * n), 0.0), spread)
    share = noise / spread if spread else 0.0
    if n >= d or not share * mean:
        covariance = (1.0 - share) * within.T @ within / n + share * mean * np.eye(d)
        return np.asarray(np.linalg.solve(covariance, difference))
    scale, ridge = (1.0 - share) / n, share * mean
    inner = np.eye(n) * ridge / scale + products if scale else np.eye(n)
    left = within.T @ np.linalg.solve(inner, within @ difference) if scale else 0.0
    return np.asarray((difference - left) / ridge)


def _held_out(x: Floats, labels: NDArray[np.bool_], folds: NDArray[np.int64], how: Direction) -> Floats:
    """Score of each example along a direction that was fitted without its fold."""
    found = np.zeros(len(x))
    for fold in np.unique(folds):
        inside = folds == fold
        known = labels[~inside]
        if known.any() and not known.all():
            direction, middle = _direction(x[~inside], known, how)
            found[inside] = x[inside] @ direction - middle
    return found


def _logistic(scores: Floats, labels: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and intercept of the logistic curve from score to label (Platt 1999), lightly regularised."""
    from sklearn.linear_model import LogisticRegression  # a second to import

    spread = float(scores.std()) or 1.0
    fitted = LogisticRegression(C=100.0).fit(scores[:, None] / spread, labels)
    return float(fitted.coef_[0, 0]) / spread, float(fitted.intercept_[0])


def _figures(
    detector: Detector, scores: Floats, labels: NDArray[np.bool_], pairs: Sequence[str]
) -> tuple[float | None, ...]:
    low, high = auroc_interval(scores, labels, pairs)
    probability = detector.probability(scores)
    right = (probability > 0.5) == labels
    balanced = float((right[labels].mean() + right[~labels].mean()) / 2.0)
    # each class weighs the same: an example of the rarer one counts for more
    weights = np.where(labels, 0.5 / labels.mean(), 0.5 / (~labels).mean())
    # where all are right there is no spread: the interval of a share says what so few can have missed
    clustered: Estimate = (
        clustered_share(right.astype(np.float64), np.array(pairs))
        if right.all() or not right.any()
        else clustered_mean(right * weights, np.array(pairs))
    )
    brier = float(((probability - labels) ** 2).mean())
    return (
        auroc(scores[labels], scores[~labels]), low, high, balanced, clustered.low, clustered.high,
        detector.threshold if np.isfinite(detector.threshold) else None, _calibration_error(probability, labels), brier,
    )  # fmt: skip


def _calibration_error(probability: Floats, labels: NDArray[np.bool_]) -> float:
    """Expected calibration error over bins of equal mass."""
    order = np.argsort(probability, kind="stable")
    parts = [part for part in np.array_split(order, BINS) if len(part)]
    return float(sum(len(p) * abs(probability[p].mean() - labels[p].mean()) for p in parts) / len(probability))
