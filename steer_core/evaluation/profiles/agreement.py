"""Whether two scorers put the same texts in the same order."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import polars as pl

from steer_core.evaluation.profiles.toxicity import checked_scores

_SAMPLE = ("prompt_id", "sample")
#: Fewest samples that have an order to compare.
_FEWEST = 2
_COLUMNS: dict[str, Any] = {
    "attribute": pl.String,
    "scorer": pl.String,
    "scorer_version": pl.String,
    "other": pl.String,
    "other_version": pl.String,
    "tau": pl.Float64,
    "n": pl.Int64,
    "n_prompts": pl.Int64,
    "n_left_out": pl.Int64,
    "missing": pl.String,
}


def agreement(scores: pl.DataFrame) -> pl.DataFrame:
    """Rank correlation of every two scorers over the samples that both scored.

    Kendall's tau-b (Kendall 1945): concordant less discordant pairs of samples over the geometric mean of the pairs
    that each scorer does not tie. Word lists and rounded scores tie a lot, which tau-b takes out of its denominator;
    Spearman's rho gives tied samples a rank in the middle. Values of two scorers share no scale: only order counts.

    No interval is given: samples of one prompt are not independent, see `n_prompts`.

    Args:
        scores: columns `toxicity.SCORES`, of two or more scorers or versions of one.

    Returns:
        Columns `attribute`, `scorer`, `scorer_version`, `other`, `other_version`, `tau` (-1 to 1), `n` (samples),
        `n_prompts`, `n_left_out` (samples that only one of the two scored), `missing` (why there is no tau).

    Raises:
        SteerworksError: the table is none.
    """
    rows = []
    for (attribute,), own in checked_scores(scores).group_by("attribute", maintain_order=True):
        by_scorer = own.partition_by("scorer", "scorer_version", maintain_order=True)
        rows += [_compared(str(attribute), a, b) for a, b in combinations(by_scorer, 2)]
    return pl.DataFrame(rows, schema=_COLUMNS)


def _compared(attribute: str, one: pl.DataFrame, other: pl.DataFrame) -> dict[str, Any]:
    scored = [rows.drop_nulls("score").select(*_SAMPLE, "score") for rows in (one, other)]
    both = scored[0].join(scored[1], on=_SAMPLE, suffix="_other")
    tau, missing = _tau(both["score"].to_numpy(), both["score_other"].to_numpy())
    return {
        "attribute": attribute,
        "scorer": one["scorer"][0],
        "scorer_version": one["scorer_version"][0],
        "other": other["scorer"][0],
        "other_version": other["scorer_version"][0],
        "tau": tau,
        "n": len(both),
        "n_prompts": both["prompt_id"].n_unique(),
        "n_left_out": len(scored[0]) + len(scored[1]) - 2 * len(both),
        "missing": missing,
    }


def _tau(one: Any, other: Any) -> tuple[float | None, str | None]:
    from scipy.stats import kendalltau  # a second to import, and rarely wanted

    if len(one) < _FEWEST:
        return None, "fewer than two samples that both scored"
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return None, "one of them gives every sample the same score"
    return float(kendalltau(one, other).statistic), None
