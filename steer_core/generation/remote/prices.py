"""Money for tokens, at a table that says of which day it is."""

from __future__ import annotations

import functools
import importlib.resources
from typing import Any

import yaml

from schemas.endpoints import Endpoint, Prices

#: Of what a million of costs that much.
PER = 1e6


def prices_of(endpoint: Endpoint, model: str) -> Prices | None:
    """What an endpoint's model costs: its own setting, or the shipped table's; None where neither knows it.

    Args:
        endpoint: where it answers.
        model: what the endpoint calls it.
    """
    if endpoint.prices is not None:
        return endpoint.prices
    table = _table().get(endpoint.dialect)
    if table is None:
        return None
    known = [name for name in table["models"] if model == name or model.startswith(f"{name}-2")]
    if not known:
        return None
    found = table["models"][max(known, key=len)]
    return Prices(**found, batch=table.get("batch", 1.0), as_of=table["as_of"])


@functools.cache
def _table() -> dict[str, Any]:
    file = importlib.resources.files("steer_core.generation.remote") / "prices.yaml"
    found: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return found


def cost_of(
    prices: Prices | None, prompt: int, completion: int, cached: int = 0, *, batch: bool = False
) -> float | None:
    """Money for so many tokens; None where prices are not known.

    cost = (prompt - cached) p + cached c + completion w, each for a million; of a batch a stated share.

    Args:
        prices: for a million tokens.
        prompt: tokens read, cached ones included.
        completion: tokens written, those of thinking included.
        cached: tokens that a cache had.
        batch: whether they went through a batch API.
    """
    if prices is None:
        return None
    for_cached = prices.prompt if prices.cached is None else prices.cached
    whole = ((prompt - cached) * prices.prompt + cached * for_cached + completion * prices.completion) / PER
    return whole * (prices.batch if batch else 1.0)
