"""Which features of a sparse autoencoder tell two classes apart: chosen on one set of activations, told on another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from steer_core.statistics import auroc, auroc_interval
from steer_core.tables.errors import SteerworksError
from steer_core.vectors.sae import Floats, Sae


def rank_features(
    sae: Sae,
    fitted: tuple[NDArray[Any], NDArray[np.bool_]],
    tested: tuple[NDArray[Any], NDArray[np.bool_], Sequence[str]],
    *,
    top: int = 20,
) -> pl.DataFrame:
    """Features by how well they tell two classes apart, chosen on one set of activations and told on another.

    Args:
        sae: the autoencoder.
        fitted: activations [n, width] and labels [n] that features are chosen by.
        tested: the same of others, with what each is of: intervals cluster by it.
        top: features that are told.

    Returns:
        `feature`, `fitted_auroc` (too good: the best of many), `auroc`, `low`, `high`, `difference` (mean activation of
        the one class less that of the other, tested), `share` (of tested activations in which it speaks); furthest from
        .5 first.

    Raises:
        SteerworksError: one class only, or an architecture that cannot be encoded.
    """
    chosen, labels = sae.encode(fitted[0]), np.asarray(fitted[1], dtype=bool)
    other, known = sae.encode(tested[0]), np.asarray(tested[1], dtype=bool)
    for side in (labels, known):
        if side.all() or not side.any():
            raise SteerworksError("features are ranked by two classes, and all examples are of one")
    found = _aurocs(chosen, labels)
    rows = []
    for feature in np.argsort(-np.abs(found - 0.5), kind="stable")[:top].tolist():
        own = other[:, feature].astype(np.float64)
        low, high = auroc_interval(own, known, list(tested[2]))
        difference = float(own[known].mean() - own[~known].mean())
        rows.append(
            (
                feature,
                float(found[feature]),
                auroc(own[known], own[~known]),
                low,
                high,
                difference,
                float((own > 0).mean()),
            )
        )
    schema = {"feature": pl.Int64} | dict.fromkeys(
        ("fitted_auroc", "auroc", "low", "high", "difference", "share"), pl.Float64
    )
    return pl.DataFrame(rows, schema=schema, orient="row")


def _aurocs(values: Floats, labels: NDArray[np.bool_]) -> NDArray[np.float64]:
    """AUROC of every column, shape [features]."""
    from scipy.stats import rankdata  # a second to import

    n, m = int(labels.sum()), int((~labels).sum())
    ranks = rankdata(values, axis=0)
    return np.asarray((ranks[labels].sum(axis=0) - n * (n + 1) / 2.0) / (n * m), dtype=np.float64)
