"""A fake endpoint, models that are asked there, and calls to ask."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fake_endpoint import FakeEndpoint, Servers

from schemas.specs import Decoding, ModelSpec
from steer_core.generation.backend import Call
from steer_core.generation.engines.openai import OpenAiBackend
from steer_core.generation.remote.ledger import Ledger
from steer_core.steering.plan import Message, Plan

PRICES = {"prompt": 1.0, "cached": 0.5, "completion": 2.0, "as_of": "2025-01-01"}


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    started = Servers()
    yield started
    started.stop()


@pytest.fixture
def serve(servers) -> Callable[..., tuple[FakeEndpoint, str]]:
    return servers.serve


def model_at(address: str, **endpoint: Any) -> ModelSpec:
    """A model that is asked at an address, without long pauses."""
    settings = {"base_url": address, "backoff": 0.005, "concurrency": 16, "prices": PRICES, **endpoint}
    return ModelSpec(name="far", source="served:far-1", engine="openai", endpoint=settings)


@pytest.fixture
def backend_at(tmp_path) -> Callable[..., OpenAiBackend]:
    """A backend that asks at an address; its ledger is the test's own, the same for each that asks with one name."""

    def made(address: str, ledger: str = "ledger", **endpoint: Any) -> OpenAiBackend:
        model = model_at(address, **endpoint)
        said = model.endpoint
        return OpenAiBackend(model, Ledger(tmp_path / f"{ledger}.sqlite", said.max_cost))

    return made


def calls_of(model: ModelSpec, prompts: list[str], **decoding: Any) -> list[Call]:
    """A call for each prompt."""
    drawn = Decoding(**{"max_new_tokens": 16, **decoding})
    return [Call(Plan(model.identity, drawn, (Message("user", p),)), 0, 7) for p in prompts]
