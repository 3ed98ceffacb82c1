"""Two sets of scores on the same requests: the mean difference, clustered by source text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steer_core.statistics.clustered import clustered_mean

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PairedContrast:
    """A measure beside its control on the same requests.

    Attributes:
        value: mean of the measure over the pairs; None without pairs.
        control_value: mean of the control over the pairs.
        difference: value - control_value.
        low: lower end of the difference's interval; None with fewer than two clusters.
        high: upper end.
        relative: difference / control_value; None where the control is 0.
        share_better: share of pairs in which the value is strictly smaller than its control.
        n: pairs.
        n_clusters: clusters with a pair.
    """

    value: float | None
    control_value: float | None
    difference: float | None
    low: float | None
    high: float | None
    relative: float | None
    share_better: float | None
    n: int
    n_clusters: int


def paired_contrast(
    values: Floats,
    controls: Floats,
    clusters: NDArray[Any],
    *,
    level: float = 0.95,
) -> PairedContrast:
    """Mean difference of paired scores with its clustered interval.

    The pair is the unit: what makes a request hard for both cancels.

    Args:
        values: scores, shape [n]; a pair with a NaN on either side is left out.
        controls: the control's scores on the same requests, shape [n].
        clusters: label of each pair's source text, shape [n].
        level: coverage asked of the interval.

    Raises:
        ValueError: lengths differ, or `level` lies outside (0, 1).
    """
    if len(values) != len(controls):
        raise ValueError(f"{len(values)} values with {len(controls)} controls: pair them by request first")
    estimate = clustered_mean(values - controls, clusters, level=level)
    if estimate.n == 0:
        return PairedContrast(None, None, None, None, None, None, None, 0, 0)
    both = ~np.isnan(values - controls)
    control_value = float(controls[both].mean())
    return PairedContrast(
        value=float(values[both].mean()),
        control_value=control_value,
        difference=estimate.value,
        low=estimate.low,
        high=estimate.high,
        relative=None if control_value == 0.0 or estimate.value is None else estimate.value / control_value,
        share_better=float((values[both] < controls[both]).mean()),
        n=estimate.n,
        n_clusters=estimate.n_clusters,
    )
