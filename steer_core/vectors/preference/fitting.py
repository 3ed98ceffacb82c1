"""From preference pairs to fits: what the preference estimators have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import polars as pl

from steer_core.models.loading import LoadedModel
from steer_core.tables.errors import ConfigError
from steer_core.vectors.evidence import Fit, Point
from steer_core.vectors.preference.capture import capture
from steer_core.vectors.preference.objectives import Objective
from steer_core.vectors.preference.pair_tokens import encode_pairs
from steer_core.vectors.preference.training import Schedule, to_fit, train_many


def split_options(
    estimator: str, options: Mapping[str, Any], own: Sequence[str], seed: int
) -> tuple[dict[str, Any], Schedule]:
    """Options of the objective, and the schedule made of the others.

    Raises:
        ConfigError: an option that neither knows.
    """
    scheduled = [f.name for f in fields(Schedule) if f.name != "seed"]
    if unknown := [name for name in options if name not in (*own, *scheduled)]:
        raise ConfigError(f"{estimator}: unknown option {unknown[0]!r}; it takes {', '.join([*own, *scheduled])}")
    schedule = Schedule(**{n: v for n, v in options.items() if n in scheduled}, seed=seed)
    return {n: v for n, v in options.items() if n in own}, schedule


def fit_points(
    loaded: LoadedModel,
    pairs: pl.DataFrame,
    concept: str,
    points: Sequence[Point],
    objective: Objective,
    schedule: Schedule,
    estimator: str,
) -> list[tuple[Point, Fit]]:
    """Train one vector for each point on one pass over the pairs.

    Raises:
        ConfigError: a point at another site than the residual stream, or no pairs to train or to validate on.
        SteerworksError: a pair does not fit the model, or the training diverges.
    """
    for point in points:
        if point.site != "residual":
            raise ConfigError(
                f"{estimator} trains at site 'residual', the stream after a layer; got {point.site!r} at layer "
                f"{point.layer}"
            )
    trunks = capture(loaded, encode_pairs(loaded, pairs, concept), [p.layer for p in points])
    trained = train_many(trunks, [(objective, schedule)])
    return [(p, to_fit(trained[p.layer][0], trunks[p.layer], objective, schedule)) for p in points]
