"""Scores of answer options, stored once; every normalisation of them, and accuracy, without another forward pass.

1. One row an option of an item. What is stored is raw: the summed log-likelihood, how many tokens and bytes it is over,
   and the log-likelihood of the same option without its context.
2. Normalisations: `sum` (log p), `token` (log p per token; Brown et al. 2020), `byte` (log p per byte of UTF-8, which
   no tokenizer moves; `acc_norm` of lm-eval is the same over characters), `unconditional` (log p - log p without the
   context: pointwise mutual information; Holtzman et al. 2021).
3. A tie is not broken by the order of the options: with `ties="share"` a gold option that ties with m - 1 others
   counts 1 / m, what a fair draw would give; `wrong` counts it 0. How many items tied is in every result.
4. An item with an option that has no score under a normalisation is in no figure, and counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from steer_core.statistics import Estimate, clustered_share
from steer_core.tables import SteerworksError

Floats = NDArray[np.float64]
Normalisation = Literal["sum", "token", "byte", "unconditional"]
Ties = Literal["share", "wrong"]

NORMALISATIONS: tuple[Normalisation, ...] = get_args(Normalisation)
#: Columns of an option table, one row an option.
COLUMNS: dict[str, Any] = {
    "item_id": pl.String,  # the question
    "cluster": pl.String,  # what items share: a passage, a template; the item itself where nothing
    "option": pl.Int64,  # its place among the options of the item
    "log_likelihood": pl.Float64,  # nats, summed over the tokens of the option; null where it was not scored
    "tokens": pl.Int64,  # tokens of the option, at least 1
    "bytes": pl.Int64,  # bytes of the option in UTF-8, at least 1
    "unconditional": pl.Float64,  # nats, of the same tokens without the context; null where it was not scored
    "gold": pl.Boolean,  # whether it is the right answer; exactly one an item
}


@dataclass(frozen=True)
class Accuracy:
    """Share of items whose best option is the right one, and how that was decided.

    Attributes:
        estimate: the share, clustered.
        normalisation: of the scores.
        ties: what a tied gold option counts.
        tolerance: scores this close count as tied.
        n_items: items of the table.
        n_unscored: of them, without a score under this normalisation: in no figure.
        n_tied: of the scored, with more than one best option.
    """

    estimate: Estimate
    normalisation: Normalisation
    ties: Ties
    tolerance: float
    n_items: int
    n_unscored: int
    n_tied: int


def checked_options(options: pl.DataFrame) -> pl.DataFrame:
    """The table, sorted by item and option, once it is one.

    Raises:
        SteerworksError: a column is missing or null, an option stands twice, an item has fewer than two options or
            not exactly one gold, its options name several clusters, a count is below 1, or a log-likelihood is NaN or
            infinite upwards.
    """
    lacking = [c for c in COLUMNS if c not in options.columns]
    if lacking:
        raise SteerworksError(f"option table without {', '.join(lacking)}: it has columns {', '.join(COLUMNS)}")
    rows = options.select(pl.col(c).cast(kind) for c, kind in COLUMNS.items()).sort("item_id", "option")
    _refuse(
        rows, pl.any_horizontal(pl.col("item_id", "cluster", "option", "tokens", "bytes", "gold").is_null()), "null"
    )
    _refuse(rows, (pl.col("tokens") < 1) | (pl.col("bytes") < 1), "an option of no tokens or no bytes")
    scores = [pl.col(c).is_nan() | (pl.col(c) == float("inf")) for c in ("log_likelihood", "unconditional")]
    _refuse(rows, pl.any_horizontal(scores).fill_null(False), "a log-likelihood that is NaN or +inf: null is unscored")
    _refuse(rows, pl.struct("item_id", "option").is_duplicated(), "an option twice")
    _refuse(rows, pl.len().over("item_id") < 2, "a single option")
    _refuse(rows, pl.col("gold").sum().over("item_id") != 1, "not exactly one gold option")
    _refuse(rows, pl.col("cluster").n_unique().over("item_id") > 1, "options in several clusters")
    return rows


def _refuse(rows: pl.DataFrame, wrong: pl.Expr, what: str) -> None:
    found = rows.filter(wrong)
    if len(found):
        raise SteerworksError(
            f"option table: {found['item_id'].n_unique()} items with {what} (first: item {found['item_id'][0]!r})"
        )


def normalised(options: pl.DataFrame, normalisation: Normalisation) -> pl.DataFrame:
    """The checked table with a column `score`; null for every option of an item that lacks one.

    A score of -inf is a probability of 0 and stays; with an unconditional of -inf as well, PMI is undefined: null.

    Raises:
        SteerworksError: the table is none, or there is no such normalisation.
    """
    total = pl.col("log_likelihood")
    ways = {
        "sum": total,
        "token": total / pl.col("tokens"),
        "byte": total / pl.col("bytes"),
        "unconditional": total - pl.col("unconditional"),
    }
    if normalisation not in ways:
        raise SteerworksError(f"normalisation {normalisation!r}: one of {', '.join(ways)}")
    score = pl.when(ways[normalisation].is_nan() | (ways[normalisation] == float("inf"))).then(None)
    scored = checked_options(options).with_columns(score=score.otherwise(ways[normalisation]))
    whole = pl.col("score").is_not_null().all().over("item_id")
    return scored.with_columns(score=pl.when(whole).then("score"))


def decided(
    options: pl.DataFrame, normalisation: Normalisation, *, ties: Ties = "share", tolerance: float = 0.0
) -> pl.DataFrame:
    """What each item was answered.

    Args:
        options: columns `COLUMNS`.
        normalisation: of the scores.
        ties: what a gold option counts that ties for the best.
        tolerance: scores this far below the best, or less, tie with it; in the unit of the score.

    Returns:
        One row an item, by id: `item_id`, `cluster`, `chosen` (places of the best options), `gold` (place),
        `correct` in [0, 1], and `n_best`; the first, `correct` and `n_best` null where the item is unscored.

    Raises:
        SteerworksError: see `normalised`; `ties` is no rule, or the tolerance is below 0.
    """
    if ties not in get_args(Ties) or not tolerance >= 0.0:
        raise SteerworksError(f"ties = {ties!r}, tolerance = {tolerance}: `share` or `wrong`, and not below 0")
    top = pl.col("score").max().over("item_id")
    # -inf - -inf is no number: equal is equal before differences are looked at
    best = (pl.col("score") == top) | (top - pl.col("score") <= tolerance)
    items = (
        normalised(options, normalisation)
        .with_columns(best=best)
        .group_by("item_id", maintain_order=True)
        .agg(
            pl.col("cluster").first(),
            chosen=pl.col("option").filter(pl.col("best")),
            gold=pl.col("option").filter(pl.col("gold")).first(),
            hit=pl.col("best").filter(pl.col("gold")).first(),
            n_best=pl.col("best").sum().cast(pl.Int64),
            whole=pl.col("score").is_not_null().all(),
        )
    )
    credit = {"share": 1.0 / pl.col("n_best"), "wrong": (pl.col("n_best") == 1).cast(pl.Float64)}[ties]
    correct = pl.when("hit").then(credit).otherwise(0.0)
    return items.select(
        "item_id",
        "cluster",
        "gold",
        *(pl.when("whole").then(e).alias(n) for n, e in _decisions(correct).items()),
    )


def _decisions(correct: pl.Expr) -> dict[str, pl.Expr]:
    return {"chosen": pl.col("chosen"), "correct": correct, "n_best": pl.col("n_best")}


def accuracy(
    options: pl.DataFrame,
    normalisation: Normalisation,
    *,
    ties: Ties = "share",
    tolerance: float = 0.0,
    level: float = 0.95,
) -> Accuracy:
    """Share of right answers with its interval, clustered; arguments as in `decided`."""
    items = decided(options, normalisation, ties=ties, tolerance=tolerance)
    scored = items.drop_nulls("correct")
    estimate = clustered_share(scored["correct"].to_numpy(), scored["cluster"].to_numpy(), level=level)
    return Accuracy(
        estimate=estimate,
        normalisation=normalisation,
        ties=ties,
        tolerance=tolerance,
        n_items=len(items),
        n_unscored=len(items) - len(scored),
        n_tied=int((scored["n_best"] > 1).sum()),
    )
