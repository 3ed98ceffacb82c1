"""What a recipe wants beside the method's own prompts: prompts of other strategies, other models, and files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from schemas.adapter_part import Recipe
from steer_core.methods.fitting import FitContext, OtherModel
from steer_core.methods.part import Composed
from steer_core.methods.parts.prompt import build_strategy
from steer_core.methods.prompts.single import SinglePrompt
from steer_core.methods.protocol import Artifact, Request
from steer_core.steering.plan import Plan
from steer_core.tables.errors import ConfigError


def plans_under(name: str, method: Composed, requests: Sequence[Request]) -> dict[str, Plan]:
    """Prompts of requests under another strategy.

    Raises:
        ConfigError: there is none of that name, it is fitted itself, or it asks several times.
    """
    # the part's method has a strategy that asks once (`Worn.combine`)
    strategy = build_strategy(name, cast(SinglePrompt, method.base).setting, {})
    if not isinstance(strategy, SinglePrompt) or strategy.traits.fits_on is not None:
        raise ConfigError(f"answers cannot be drawn under {name!r}: take a strategy that asks once and is not fitted")
    return {r.request_id: strategy.plan(r, Artifact()) for r in requests}


def others_of(recipe: Recipe, cell: FitContext) -> dict[str, OtherModel]:
    """The models, beside the cell's own, that write what a recipe trains on, by name.

    Raises:
        ConfigError: the configuration has no such model.
    """
    return {name: cell.other(name) for name in recipe.writers(cell.model.name) if name != cell.model.name}


def written_by(recipe: Recipe, cell: FitContext) -> dict[str, Any]:
    """What of other models an adapter follows from: settings beside the recipe's own, none where it asks none."""
    others = others_of(recipe, cell)
    return {"written_by": {name: other.digest() for name, other in others.items()}} if others else {}


def content_of(file: str) -> bytes:
    """What a file holds that a recipe names.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        return Path(file).expanduser().read_bytes()
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from error
