"""Attributes that SteerLM conditions on, with their levels, and how a model that reads them off is trained."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from schemas.adapter_part import LoraSpec
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


class AttributeModelSpec(Spec):
    """How an attribute model is trained, on what a causal language model makes of a text.

    Defaults are for the model that ships; published runs take a learning rate of 2e-6 to 9e-6 on all weights.
    """

    form: Literal["regression", "generative"] = Field(
        "regression",
        description="A linear head on what the model holds at a text's end; or the model writes the levels behind the "
        "text, each given those before it, and a prediction is their mean under its probabilities",
    )
    body: Literal["frozen", "lora", "full"] = Field(
        "lora", description="What learns beside the head: nothing (a ridge regression), a low-rank adapter, everything"
    )
    lora: LoraSpec = Field(default_factory=lambda: LoraSpec.model_validate({}))
    read: Literal["last", "mean"] = Field("last", description="Hidden state of the last token, or the mean over tokens")
    ridge: float = Field(1e-3, gt=0.0, description="Penalty of the regression that the head starts from, a row")
    steps: int = Field(400, gt=0, description="Optimiser steps; none where the body is frozen")
    rows_per_step: int = Field(32, gt=0)
    learning_rate: float = Field(2e-3, gt=0.0, description="Peak; of AdamW")
    head_rate: float = Field(2e-3, gt=0.0, description="Peak of the head's learning rate")
    warmup: float = Field(0.05, ge=0.0, lt=1.0, description="Share of the steps over which the rates rise")
    weight_decay: float = Field(0.01, ge=0.0)
    betas: tuple[float, float] = Field((0.9, 0.98), description="Of AdamW")
    grad_norm: float = Field(1.0, gt=0.0, description="Gradients are clipped to it")
    max_tokens: int = Field(512, gt=0, description="Longer rows are left out: it is their end that is read")
    checkpoints: int = Field(1, gt=0, description="States that are kept, evenly spaced, the last one included")
    seed: int = Field(0, ge=0, description="Of first weights and order")

    @model_validator(mode="after")
    def _learns(self) -> AttributeModelSpec:
        if self.form == "generative" and self.body == "frozen":
            raise ValueError("`form: generative` has no head, and `body: frozen` leaves nothing else to learn")
        return self
