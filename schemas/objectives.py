"""What is wanted of an answer that may be trained on: metrics by name, objectives, and floors."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from schemas.spec import Spec

#: What a candidate is measured by beside `goal:NAME`, `text:METRIC` and `scorer:NAME:ATTRIBUTE`.
METRICS = ("steering_error", "meaning", "length")
#: Those of them that say how an answer stands to its request: undefined where there is only a prompt.
OF_REQUESTS = ("steering_error", "meaning")
_SHAPES = re.compile(r"goal:.+|text:[a-z0-9_]+|scorer:[a-z0-9][a-z0-9_.-]*:[a-z0-9_]+")


def text_metric(name: str) -> str | None:
    """The characteristic of texts that a metric `text:METRIC` names; None for another metric."""
    return name.removeprefix("text:") if name.startswith("text:") else None


def scorer_metric(name: str) -> tuple[str, str] | None:
    """Scorer and attribute that a metric `scorer:NAME:ATTRIBUTE` names; None for another metric."""
    if not name.startswith("scorer:"):
        return None
    _, scorer, attribute = name.split(":")
    return scorer, attribute


def _known_metric(name: str) -> str:
    """Refuse a metric that there is not; which texts' metrics and scorers there are is known to the library alone.

    Raises:
        ValueError: says which there are.
    """
    if name not in METRICS and not _SHAPES.fullmatch(name):
        raise ValueError(
            f"unknown metric {name!r}; there are: {', '.join(METRICS)}, goal:NAME, text:METRIC, scorer:NAME:ATTRIBUTE"
        )
    return name


Metric = Annotated[str, AfterValidator(_known_metric)]


class Objective(Spec):
    """What is wanted of an answer, by one metric."""

    metric: Metric = Field(
        description="`steering_error` (distance from the target in goal space), `meaning` (overlap of content words "
        "with the source, in [0, 1]), `length` (words), `goal:NAME` (position on a goal, in [0, 1]), `text:METRIC` (a "
        "characteristic of texts, in its unit), or `scorer:NAME:ATTRIBUTE` (what a scorer of toxicity gives, in [0, 1])"
    )
    direction: Literal["max", "min", "target"] = Field(description="More, less, or as close to `value` as can be")
    value: float | None = Field(None, description="What is aimed at; of `target` alone")
    weight: float = Field(1.0, gt=0.0, description="Among several objectives, each divided by its spread in the pool")

    @model_validator(mode="after")
    def _aims(self) -> Objective:
        if (self.direction == "target") != (self.value is not None):
            raise ValueError(f"objective {self.metric!r}: `value` belongs to `direction: target`, and to it alone")
        return self


class Floor(Spec):
    """What a candidate must have to be chosen at all."""

    metric: Metric = Field(description="As of an objective")
    least: float | None = Field(None, description="Smallest value that will do")
    most: float | None = Field(None, description="Largest value that will do")

    @model_validator(mode="after")
    def _bounds(self) -> Floor:
        if self.least is None and self.most is None:
            raise ValueError(f"floor of {self.metric!r}: give `least`, `most` or both")
        if self.least is not None and self.most is not None and self.least > self.most:
            raise ValueError(f"floor of {self.metric!r}: least = {self.least} is above most = {self.most}")
        return self
