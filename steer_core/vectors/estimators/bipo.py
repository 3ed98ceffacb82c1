"""BiPO: a vector that makes answers with the concept likelier when added, and less likely when subtracted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from steer_core.models.loading import LoadedModel
from steer_core.vectors.evidence import Fit, Point

NEEDS: frozenset[str] = frozenset({"model"})
OPERATOR = "add"


def train(
    loaded: LoadedModel,
    pairs: pl.DataFrame,
    examples: pl.DataFrame,
    concept: str,
    points: Sequence[Point],
    seed: int,
    **options: Any,
) -> list[tuple[Point, Fit]]:
    """Bidirectional preference optimisation (Cao et al., NeurIPS 2024, arXiv 2406.00045, Eq. 3).

    One vector a layer, each trained by itself; all share one pass over the pairs. The checkpoint is the epoch with the
    lowest validation loss over both signs.

    Args:
        loaded: the model; it is left as it was.
        pairs: rows of `schemas.PreferencePairs`; splits `train` and `validation` of the concept are used.
        examples: not used.
        concept: concept to train.
        points: layers, at site `residual`.
        seed: of the order of the pairs.
        **options: `beta` (0.1), `signs` (`antithetic` or `compat`), `multiplier` (1.0), and the fields of
            `steer_core.vectors.preference.training.Schedule`: `epochs`, `batch`, `learning_rate`, `warmup`, `horizon`,
            `clip`, `weight_decay`.

    Returns:
        A fit with operator `add` for each point: `direction` [1, width], and as scalars `best_epoch`,
        `validation_loss`, `validation_margin` (mean over both signs), `validation_accuracy` and `residual_norm`. The
        training curve is in its lineage.

    Raises:
        ConfigError: an unknown option, another site, or no pairs to train or to validate on.
        SteerworksError: a pair does not fit the model, or the training diverges.
    """
    from steer_core.vectors.preference.fitting import fit_points, read_options
    from steer_core.vectors.preference.objectives import Bipo

    objective, schedule = read_options("bipo", options, Bipo, seed)
    return fit_points(loaded, pairs, concept, points, objective, schedule, "bipo")


def check(options: Mapping[str, Any]) -> None:
    """Refuse options that make no sense.

    Raises:
        ConfigError: says which.
    """
    from steer_core.vectors.preference.fitting import read_options
    from steer_core.vectors.preference.objectives import Bipo

    read_options("bipo", options, Bipo, 0)
