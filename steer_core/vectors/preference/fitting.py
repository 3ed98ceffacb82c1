"""From preference pairs to fits: what the preference estimators have in common."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeVar

import polars as pl

from steer_core import extensions
from steer_core.models.loading import LoadedModel
from steer_core.tables.errors import ConfigError
from steer_core.vectors.evidence import Fit, Point
from steer_core.vectors.preference.capture import capture
from steer_core.vectors.preference.objectives import Objective
from steer_core.vectors.preference.pair_tokens import encode_pairs
from steer_core.vectors.preference.training import Schedule, to_fit, train_many

ObjectiveT = TypeVar("ObjectiveT", bound=Objective)


def read_options(
    estimator: str, options: Mapping[str, Any], objective: Callable[..., ObjectiveT], seed: int
) -> tuple[ObjectiveT, Schedule]:
    """The objective that the options describe, and the schedule made of the others.

    Raises:
        ConfigError: an option that neither knows, or that makes no sense.
    """
    scheduled = [f.name for f in fields(Schedule) if f.name != "seed"]
    own = list(inspect.signature(objective).parameters)
    if unknown := [name for name in options if name not in (*own, *scheduled)]:
        raise ConfigError(f"{estimator}: unknown option {unknown[0]!r}; it takes {', '.join([*own, *scheduled])}")
    of_schedule = {n: v for n, v in options.items() if n in scheduled}
    of_objective = {n: v for n, v in options.items() if n in own}
    extensions.check_options(Schedule, of_schedule, estimator)
    extensions.check_options(objective, of_objective, estimator)
    # a configuration has lists where a hash needs tuples
    frozen = {n: tuple(map(float, v)) if isinstance(v, list | tuple) else v for n, v in of_objective.items()}
    return objective(**frozen), Schedule(**of_schedule, seed=seed)


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
