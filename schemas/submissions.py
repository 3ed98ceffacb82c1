"""The card of a submission: who made answers elsewhere, how, and on what terms."""

from __future__ import annotations

from pydantic import Field, field_validator

from schemas.spec import Spec


class SubmissionCard(Spec):
    """What a submission says of itself (`card.yaml`)."""

    model: str = Field(min_length=1, description="The model that wrote the answers, with its version")
    method: str = Field(min_length=1, description="How it was steered, in a sentence")
    by: str = Field(min_length=1, description="Who submits")
    licence: str = Field(min_length=1, description="Terms of the answers, e.g. `CC-BY-4.0`")
    goal_space_id: str = Field(min_length=1, description="Goal space of the probe that was answered, from its card")
    tokens_per_request: float | None = Field(None, ge=0.0, description="Tokens written a request; null: not known")
    links: tuple[str, ...] = Field((), description="Paper, code, weights")
    notes: str = ""

    @field_validator("model", "method", "by", "licence")
    @classmethod
    def _says_something(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("is blank")
        return value
