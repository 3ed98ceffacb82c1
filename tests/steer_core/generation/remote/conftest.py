"""A fake endpoint, models that are asked there, and calls to ask."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fake_endpoint import FakeEndpoint, Servers
from far_models import model_at

from steer_core.generation.engines.openai import OpenAiBackend
from steer_core.generation.remote.ledger import Ledger


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    started = Servers()
    yield started
    started.stop()


@pytest.fixture
def serve(servers) -> Callable[..., tuple[FakeEndpoint, str]]:
    return servers.serve


@pytest.fixture
def backend_at(tmp_path) -> Callable[..., OpenAiBackend]:
    """A backend that asks at an address; its ledger is the test's own, the same for each that asks with one name."""

    def made(address: str, ledger: str = "ledger", **endpoint: Any) -> OpenAiBackend:
        model = model_at(address, **endpoint)
        said = model.endpoint
        return OpenAiBackend(model, Ledger(tmp_path / f"{ledger}.sqlite", said.max_cost))

    return made
