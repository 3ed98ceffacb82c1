"""Profiles as they are configured: what is asked apart from the requests, and in which settings of a cell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from schemas.kinds import OfKind, read_kind
from schemas.spec import EACH_ONCE, Slug, Spec


class ProfileSpec(OfKind):
    """Base of the settings of a profile: a kind adds what it asks, and how."""

    KINDS: ClassVar[dict[str, type[Any]]] = {}
    WHAT = "kind of profile"
    GROUP = "steerworks.profiles"

    name: Slug = Field(description="Its name in tables and on pages")
    description: str = ""

    @property
    def judge_model(self) -> str | None:
        """Model of the configuration that judges its answers; None where that is the cell's own, or nobody."""
        judge = getattr(self, "judge", None)
        return judge.model if isinstance(judge, RaterSpec) else None


class RaterSpec(Spec):
    """Who judges the answers to a profile: a language model, or the embedded model's grammar, which knows."""

    kind: Literal["ground_truth", "llm"] = "llm"
    model: Slug | None = Field(None, description="Judge model; null: the cell's own, unsteered")
    repeats: int = Field(1, gt=0, description="Judgements of each answer")
    reading: Literal["auto", "expected", "text"] = Field(
        "auto",
        description="`expected`: mean over the probabilities of the grades; `text`: the grade that is written; `auto`: "
        "expected where the engine gives log-probabilities",
    )

    @model_validator(mode="after")
    def _the_grammar_is_no_model(self) -> RaterSpec:
        given = self.model_fields_set & {"model", "repeats", "reading"}
        if self.kind == "ground_truth" and given:
            raise ValueError(f"`{sorted(given)[0]}` is of a language model, and a judge of kind ground_truth asks none")
        return self


def read_profile(value: Any) -> Any:
    """The spec of a profile (`read_kind`)."""
    return read_kind(ProfileSpec, value)


class BudgetSpec(Spec):
    """What steering may cost: a capability that may not fall by more than that."""

    profile: Slug = Field(description="Profile of the bench that measures the capability")
    metric: str | None = Field(None, description="Its metric; null: the kind's own capability")
    better: Literal[1, -1] | None = Field(
        None, description="1 where more of it is better, -1 where less is; null: as the kind says"
    )
    most: float = Field(gt=0.0, description="Largest loss that is borne, in the metric's own unit")


class ProfiledSpec(Spec):
    """In which settings the cells of a bench are profiled, beside the model as it is."""

    asked: tuple[dict[Slug, float], ...] | None = Field(
        None, min_length=1, description="Requests, goal -> move from the middle; null: the first goal up by .4"
    )
    behaviors: Annotated[tuple[Slug, ...], EACH_ONCE] = Field(
        (), description="Behaviors whose swept vectors are profiled"
    )
    strengths: Annotated[tuple[float, ...], EACH_ONCE] = Field(
        (), description="Of those vectors; none: the two ends of the sweep"
    )
    pairs: Annotated[tuple[tuple[Slug, Slug], ...], EACH_ONCE] = Field(
        (), description="Two behaviors each whose vectors are profiled alone and together, at the same strengths"
    )
    budget: BudgetSpec | None = Field(None, description="What the strongest arm may cost; null: none is chosen")

    @field_validator("asked")
    @classmethod
    def _a_request_moves(cls, asked: tuple[dict[str, float], ...] | None) -> tuple[dict[str, float], ...] | None:
        for request in asked or ():
            if not request:
                raise ValueError("a request of no goal asks for nothing: the model as it is, is profiled anyway")
            for goal, move in request.items():
                if not -0.5 <= move <= 0.5 or not move:
                    raise ValueError(f"{goal}: a move from the middle is within -0.5 and 0.5, and not 0; got {move:g}")
        return asked

    @field_validator("pairs")
    @classmethod
    def _two_behaviors(cls, pairs: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        if odd := [one for one, other in pairs if one == other]:
            raise ValueError(f"a pair is two behaviors, and one is {odd[0]!r} twice")
        return pairs

    @property
    def swept(self) -> tuple[str, ...]:
        """Behaviors whose vectors are profiled alone: those of pairs too, for what both do is held against it."""
        return tuple(dict.fromkeys((*self.behaviors, *(name for pair in self.pairs for name in pair))))

    def requests(self, goals: tuple[str, ...]) -> tuple[Mapping[str, float], ...]:
        """What is asked for, on a goal space."""
        return self.asked if self.asked is not None else ({goals[0]: 0.4},)
