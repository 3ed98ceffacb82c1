"""How a bench searches for the setting of a vector, behavior by behavior."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from schemas.spec import EACH_ONCE, Slug, Spec
from schemas.vector_part import PositionSelector

#: What can be looked for; `judged` by the behavior's judge, the rest on the same answers.
SearchMeasure = Literal["judged", "propensity", "kl", "perplexity", "refused", "length"]

#: Of an activation with the condition vector of a gate.
Cosine = Annotated[float, Field(ge=-1.0, le=1.0)]


def _judged_most() -> dict[SearchMeasure, Literal["max", "min"]]:
    return {"judged": "max"}


class SearchSpec(Spec):
    """A search in every cell with a vector: chosen on validation questions, told on test items."""

    trials: int = Field(40, gt=0, description="Settings that are tried, in all: raise it at any time")
    objectives: Mapping[SearchMeasure, Literal["max", "min"]] = Field(
        default_factory=_judged_most,
        min_length=1,
        description="What is looked for; the first decides, several have a front of settings that none beats on all",
    )
    layers: tuple[tuple[Annotated[int, Field(ge=0)], ...], ...] | Literal["each", "pairs"] = Field(
        "pairs", description="Sets of 0-based layers; `each`: every layer alone; `pairs`: those and neighbouring pairs"
    )
    strength: tuple[float, float] = Field((0.05, 1.0), description="Lower and upper end, in the unit of the vector")
    positions: Annotated[tuple[PositionSelector, ...], EACH_ONCE] = Field(
        ("all", "completion"), min_length=1, description="Position selectors to choose from"
    )
    profiles: Annotated[tuple[Literal["flat", "peaked"], ...], EACH_ONCE] = Field(
        ("flat",), min_length=1, description="How the strength is spread over several layers, to choose from"
    )
    operators: Annotated[tuple[Slug, ...], EACH_ONCE] = Field(
        (), description="Modules of `steer_core.steering.operators` to choose from; none: the part's"
    )
    thresholds: tuple[Cosine, Cosine] | None = Field(
        None, description="Lower and upper cosine of the part's gate; null: as it was fitted"
    )
    sampler: Literal["tpe", "random"] = Field("tpe", description="Optuna's estimators, or chance")
    questions: int = Field(24, gt=1, description="Validation questions that settings are chosen by, at most")
    behaviors: Annotated[tuple[Slug, ...] | None, EACH_ONCE] = Field(None, description="Of the bench's; null: all")
    random_search: bool = Field(True, description="Whether chance also chooses, among as many trials: a control")
    random_directions: int = Field(19, ge=0, description="Random directions in the place of the chosen vector")
    told: int = Field(5, gt=0, description="Settings of the front that are told on test items, at most")
    seed: int = Field(0, ge=0, description="Seed of the proposals")

    @model_validator(mode="after")
    def _has_something_to_search(self) -> SearchSpec:
        if not self.strength[0] < self.strength[1]:
            raise ValueError(f"strengths from {self.strength[0]:g} to {self.strength[1]:g}: the lower end comes first")
        if self.thresholds is not None and not self.thresholds[0] < self.thresholds[1]:
            raise ValueError(f"`thresholds` of a search, {list(self.thresholds)}: the lower end comes first")
        if not isinstance(self.layers, str) and (not self.layers or not all(self.layers)):
            raise ValueError("`layers` of a search: at least one set, and none of them empty")
        return self
