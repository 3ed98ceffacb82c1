"""Fit a method on the fit responses: a model's answers to the training pool, never to the test probe."""

from __future__ import annotations

import polars as pl

from steer_core.goals.space import GoalSpace
from steer_core.methods.driver import requests_from
from steer_core.methods.protocol import Artifact, FitResponse, Method

#: Bumped when the same responses fit another artifact.
VERSION = "1"


def fit_method(
    method: Method,
    requests: pl.DataFrame,
    request_goals: pl.DataFrame,
    responses: pl.DataFrame,
    outcomes: pl.DataFrame,
    values: pl.DataFrame,
    space: GoalSpace,
) -> Artifact:
    """The method's artifact.

    Args:
        method: what fits.
        requests: rows of `requests`; those without an outcome are left out.
        request_goals: rows of `request_goals`.
        responses: fit responses.
        outcomes: what was chosen of them.
        values: `goal_values` of the chosen texts.
        space: the goal space.
    """
    raw = dict(responses.select("response_id", "raw").iter_rows())
    asked = requests.join(outcomes.select("request_id"), on="request_id", how="semi")
    of_request = {r.request_id: r for r in requests_from(asked, request_goals, space.goals)}
    z, _ = space.locate(space.matrix(values, outcomes["text_id"]))
    fitted = []
    for row, position in zip(outcomes.iter_rows(named=True), z.tolist(), strict=True):
        reached = {g: (v if v == v else None) for g, v in zip(space.goals, position, strict=True)}
        request = of_request[row["request_id"]]
        fitted.append(FitResponse(request, row["text"], raw[row["response_id"]], row["failure"], reached))
    return method.fit(tuple(fitted))
