"""RePS: a vector that makes answers with the concept likelier when added, and less likely when it is nulled."""

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
    """Reference-free preference steering (Wu et al. 2025, arXiv 2505.20809).

    Negative strengths are not trained: what the method trains against the concept is nulling, which directional
    ablation does at inference (there both signs of the component go, in training only the positive one).

    Args:
        loaded: the model; it is left as it was.
        pairs: rows of `schemas.PreferencePairs`; splits `train` and `validation` of the concept are used.
        examples: not used.
        concept: concept to train.
        points: layers, at site `residual`.
        seed: of the start, the order of the pairs and the factors drawn.
        **options: `factors` (2 to 20 in steps of 2, as published), `beta` (1.0), `start_norm` (0.5), and the fields of
            `steer_core.vectors.preference.training.Schedule`: `epochs`, `batch`, `learning_rate`, `warmup`, `horizon`,
            `clip`, `weight_decay`.

    Returns:
        A fit with operator `add` for each point: `direction` [1, width], and as scalars `best_epoch`,
        `validation_loss`, `validation_margin` (mean over the factors and nulling), `validation_accuracy` and
        `residual_norm`. The training curve is in its lineage.

    Raises:
        ConfigError: an unknown option, another site, or no pairs to train or to validate on.
        SteerworksError: a pair does not fit the model, or the training diverges.
    """
    from steer_core.vectors.preference.fitting import fit_points, read_options
    from steer_core.vectors.preference.objectives import Reps

    objective, schedule = read_options("reps", options, Reps, seed)
    return fit_points(loaded, pairs, concept, points, objective, schedule, "reps")


def check(options: Mapping[str, Any]) -> None:
    """Refuse options that make no sense.

    Raises:
        ConfigError: says which.
    """
    from steer_core.vectors.preference.fitting import read_options
    from steer_core.vectors.preference.objectives import Reps

    read_options("reps", options, Reps, 0)
