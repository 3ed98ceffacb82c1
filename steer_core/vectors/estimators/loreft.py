"""LoReFT: a low-rank edit of the residual stream, trained on answers with the concept, or on pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import polars as pl

from steer_core.models.loading import LoadedModel
from steer_core.vectors.evidence import Fit, Point

NEEDS: frozenset[str] = frozenset({"model"})
OPERATOR = "low_rank"


def train(
    loaded: LoadedModel,
    pairs: pl.DataFrame,
    examples: pl.DataFrame,
    concept: str,
    points: Sequence[Point],
    seed: int,
    *,
    rank: int = 4,
    objective: Literal["supervised", "preference"] = "supervised",
    beta: float = 0.1,
    positions: str = "all",
    epochs: int = 12,
    batch: int = 16,
    learning_rate: float = 9e-4,
    warmup: int = 0,
    horizon: int | None = None,
    clip: float = 1.0,
    weight_decay: float = 0.0,
) -> list[tuple[Point, Fit]]:
    """Low-rank linear subspace ReFT (Wu et al. 2024, arXiv:2404.03592, Eq. 2): h + R^T (W h + b - R h).

    One edit a layer, each trained by itself; all share one pass over the pairs. Strength 1 is the edit as it was
    trained, 0 none; others are not trained. The opposite of the concept is none of its strengths.

    Args:
        loaded: the model; it is left as it was.
        pairs: rows of `schemas.PreferencePairs`; splits `train` and `validation` of the concept are used.
        examples: not used.
        concept: concept to train.
        points: layers, at site `residual`.
        seed: of the start, and of the order of the pairs.
        rank: dimensions of the edit.
        objective: `supervised`: likelihood of the chosen answers, as published; `preference`: DPO on the pairs.
        beta: sharpness of the preference.
        positions: tokens that are edited; a part's `positions` where its options say nothing.
        epochs: as all that follow, of `steer_core.vectors.preference.training.Schedule`.
        batch: pairs of a step.
        learning_rate: of AdamW, at its top.
        warmup: steps until it is there.
        horizon: epochs after which the cosine ends at 0.
        clip: largest L2 norm of a gradient.
        weight_decay: of AdamW.

    Returns:
        A fit with operator `low_rank` for each point: `left` and `right` [rank, width], `direction` [1, width], and
        scalars as of the other trained estimators. The training curve is in its lineage.

    Raises:
        ConfigError: an option that makes no sense, another site, or no pairs to train or to validate on.
        SteerworksError: a pair does not fit the model, or the training diverges.
    """
    from steer_core.vectors.preference.fitting import fit_points
    from steer_core.vectors.preference.reft import Loreft
    from steer_core.vectors.preference.training import Schedule

    schedule = Schedule(epochs, batch, learning_rate, warmup, horizon, clip, weight_decay, seed)
    edit = Loreft(rank, objective, beta, positions)
    return fit_points(loaded, pairs, concept, points, edit, schedule, "loreft")


def check(options: Mapping[str, Any]) -> None:
    """Refuse options that make no sense.

    Raises:
        ConfigError: says which.
    """
    from steer_core.steering.positions import parse_positions
    from steer_core.vectors.preference.reft import Loreft

    parse_positions(str(options.get("positions", "all")))
    Loreft(**{n: options[n] for n in ("rank", "objective", "beta") if n in options})
