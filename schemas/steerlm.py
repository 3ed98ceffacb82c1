"""Attributes that SteerLM conditions on: what they are called, and the whole levels that they have."""

from __future__ import annotations

from pydantic import Field, field_validator, model_validator

from schemas.spec import Spec


class AttributeSpec(Spec):
    """One attribute of a text."""

    name: str = Field(
        pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=40, description="As it stands in a label string: one word"
    )
    low: int = Field(0, description="Lowest level")
    high: int = Field(4, description="Highest level; levels are the whole numbers from `low` to `high`")
    description: str = Field("", description="What it means; no part of the hash")

    @model_validator(mode="after")
    def _has_levels(self) -> AttributeSpec:
        if self.high <= self.low:
            raise ValueError(f"attribute {self.name!r} has no two levels: high = {self.high} is not above {self.low}")
        return self

    @property
    def levels(self) -> tuple[int, ...]:
        """Its levels, rising."""
        return tuple(range(self.low, self.high + 1))


class AttributeSet(Spec):
    """Attributes in the order of a label string, and of the columns of every table and tensor."""

    attributes: tuple[AttributeSpec, ...] = Field(min_length=1)

    @field_validator("attributes")
    @classmethod
    def _named_once(cls, value: tuple[AttributeSpec, ...]) -> tuple[AttributeSpec, ...]:
        names = [a.name for a in value]
        if twice := [name for k, name in enumerate(names) if name in names[:k]]:
            raise ValueError(f"attribute {twice[0]!r} stands twice")
        return value

    @classmethod
    def of(cls, *names: str, low: int = 0, high: int = 4) -> AttributeSet:
        """Attributes that share their levels."""
        made = [AttributeSpec.model_validate({"name": n, "low": low, "high": high}) for n in names]
        return cls.model_validate({"attributes": made})

    @property
    def names(self) -> tuple[str, ...]:
        """Names in order."""
        return tuple(a.name for a in self.attributes)

    def __len__(self) -> int:
        return len(self.attributes)


#: Of HelpSteer and HelpSteer2 (Wang et al. 2023, 2024), native levels 0 to 4.
HELPSTEER = AttributeSet.of("helpfulness", "correctness", "coherence", "complexity", "verbosity")
#: The nine outputs of the regression models: four of OASST, five of HelpSteer.
NINE = AttributeSet.of("quality", "toxicity", "humor", "creativity", *HELPSTEER.names)
#: Of the SteerLM paper (Dong et al. 2023), levels 0 to 9.
SEVEN = AttributeSet.of(
    "quality", "toxicity", "humor", "creativity", "violence", "helpfulness", "not_appropriate", high=9
)
#: Of the generative models on OASST, levels 0 to 4.
TWELVE = AttributeSet.of(
    *SEVEN.names, "hate_speech", "sexual_content", "fails_task", "political_content", "moral_judgement"
)
