"""What a recipe wants beside the method's own prompts: prompts of other strategies, and files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

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


def content_of(file: str) -> bytes:
    """What a file holds that a recipe names.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        return Path(file).expanduser().read_bytes()
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from error
