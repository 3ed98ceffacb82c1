"""Models that are asked at an address, and calls to ask."""

from __future__ import annotations

from typing import Any

from schemas.specs import Decoding, ModelSpec
from steer_core.generation.backend import Call
from steer_core.steering.plan import Message, Plan

PRICES = {"prompt": 1.0, "cached": 0.5, "completion": 2.0, "as_of": "2025-01-01"}


def model_at(address: str, **endpoint: Any) -> ModelSpec:
    """A model that is asked at an address, without long pauses."""
    settings = {"base_url": address, "backoff": 0.005, "concurrency": 16, "prices": PRICES, **endpoint}
    return ModelSpec(name="far", source="served:far-1", engine="openai", endpoint=settings)


def calls_of(model: ModelSpec, prompts: list[str], **decoding: Any) -> list[Call]:
    """A call for each prompt."""
    drawn = Decoding(**{"max_new_tokens": 16, **decoding})
    return [Call(Plan(model.identity, drawn, (Message("user", p),)), 0, 7) for p in prompts]
