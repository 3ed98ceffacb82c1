"""Money for tokens: by hand, by kind of token, and by the longest name that is known."""

import datetime

import pytest

from schemas.endpoints import Endpoint, Prices
from steer_core.generation.remote.prices import cost_of, prices_of

OPENAI = Endpoint(dialect="openai")


def test_cost_is_tokens_times_prices_by_kind():
    prices = Prices(prompt=2.0, cached=0.5, completion=8.0, batch=0.5, as_of=datetime.date(2025, 1, 1))
    # 600 k fresh at 2, 400 k cached at .5, 100 k written at 8
    assert cost_of(prices, 1_000_000, 100_000, 400_000) == pytest.approx(1.2 + 0.2 + 0.8)
    assert cost_of(prices, 1_000_000, 100_000, 400_000, batch=True) == pytest.approx(1.1)
    assert cost_of(prices.model_copy(update={"cached": None}), 1_000_000, 0, 400_000) == pytest.approx(2.0)
    assert cost_of(None, 5, 5) is None


def test_dated_names_fall_back_to_the_longest_known_and_those_with_a_price_of_their_own_have_it():
    def price(model):
        found = prices_of(OPENAI, model)
        return None if found is None else (found.prompt, found.completion)

    assert price("gpt-4o") == price("gpt-4o-2024-08-06") == (2.5, 10.0)
    assert price("gpt-4o-2024-05-13") == (5.0, 15.0)
    assert price("gpt-4o-mini-2024-07-18") == (0.15, 0.6)
    assert price("gpt-4o-audio-preview") is None
    assert price("some-other-model") is None
    own = Endpoint(dialect="openai", prices=Prices(prompt=1, completion=1, as_of=datetime.date(2025, 1, 1)))
    assert prices_of(own, "gpt-4o").prompt == 1
    assert prices_of(Endpoint(base_url="http://x/v1"), "gpt-4o") is None
