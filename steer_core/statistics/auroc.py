"""Area under the ROC curve: the chance that a value of one kind lies above one of another (Mann-Whitney)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from steer_core.statistics.bootstrap import resample_counts
from steer_core.statistics.clustered import clustered_share

#: Resamples of items behind an interval.
DRAWS = 2000


def auroc(positive: NDArray[np.float64], negative: NDArray[np.float64]) -> float:
    """Area under the ROC curve: the chance that a value of the first lies above one of the second, ties half."""
    from scipy.stats import rankdata  # a second to import, and rarely wanted

    ranks = rankdata(np.concatenate([positive, negative]))
    n, m = len(positive), len(negative)
    return float((ranks[:n].sum() - n * (n + 1) / 2.0) / (n * m))


def auroc_interval(
    values: NDArray[np.float64], labels: NDArray[np.bool_], items: Sequence[str], *, level: float = 0.95
) -> tuple[float | None, float | None]:
    """Interval of the AUROC over resampled items (percentile bootstrap): all values of an item are drawn together.

    Where every positive value lies on one side of every negative one there is no spread to resample, and each item
    counts as one: the other end says how large a rate so many items can have missed (`clustered_share`).

    Args:
        values: shape [n]; a NaN is left out.
        labels: which of them are positive, shape [n].
        items: what each value is of, shape [n].
        level: coverage asked of the interval.

    Returns:
        None where there are fewer than two items, or no draw has both labels.
    """
    numbers: dict[str, int] = {}
    owner = np.array([numbers.setdefault(item, len(numbers)) for item in items])
    if len(numbers) < 2:
        return None, None
    parsed = ~np.isnan(values)
    counts = resample_counts(len(numbers), DRAWS, np.random.default_rng(0))[:, owner]  # [draws, cases]
    positive, negative = parsed & labels, parsed & ~labels
    over = values[positive][:, None] - values[negative][None]
    wins = np.where(over > 0, 1.0, np.where(over == 0, 0.5, 0.0))
    weights = np.einsum("di,ij,dj->d", counts[:, positive], wins, counts[:, negative])
    pairs = counts[:, positive].sum(axis=1) * counts[:, negative].sum(axis=1)
    if not (pairs > 0).any():
        return None, None
    first = float(wins.flat[0])
    if first != 0.5 and (wins == first).all():
        # as many items as could have said otherwise: those of the rarer side
        n = min(len(np.unique(owner[positive])), len(np.unique(owner[negative])))
        found = clustered_share(np.full(n, first), np.arange(n), level=level)
        return found.low, found.high
    low, high = np.quantile(weights[pairs > 0] / pairs[pairs > 0], [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
