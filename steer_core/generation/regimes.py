"""Which rows may share a pass where that changes what they say.

Some models let rows share passes with rows of their own length alone, or with none (`generation.sharing`). Others turn
rotary positions by the longest row of a pass: with `longrope` (Phi 3) a pass turns all of its rows by the long factors
once its longest row is beyond the context that the model was first trained on. A row before that boundary then answers
otherwise beside a long one than alone.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from steer_core.generation.sharing import Sharing

#: (tokens at first, tokens at most) -> regime; rows of one regime may share passes.
Regime = Callable[[int, int], Hashable]
#: Rotary embeddings that are made anew from the longest row of a pass.
DEPENDENT = ("longrope", "dynamic")


def rotary_kind(config: Any) -> tuple[str, int] | None:
    """Kind and boundary (tokens) of rotary positions that depend on the longest row; None where none do."""
    parameters = getattr(config, "rope_parameters", None) or {}
    # one dict, or one for each type of layer
    for found in (parameters, *(p for p in parameters.values() if isinstance(p, dict))):
        if (kind := found.get("rope_type")) in DEPENDENT:
            own = getattr(config, "original_max_position_embeddings", None)
            return kind, int(found.get("original_max_position_embeddings") or own or config.max_position_embeddings)
    return None


def regime_of(config: Any, sharing: Sharing = Sharing.ANY) -> Regime:
    """How rows of a model are told apart.

    Rows that stay before the boundary share passes, and with `longrope` those that begin behind it. Others share them
    with rows of their own length, which need no padding and cross it together.
    """
    if sharing is Sharing.NONE:
        return lambda first, most: object()
    if sharing is Sharing.EQUAL:
        return lambda first, most: first
    kind = rotary_kind(config)
    if kind is None:
        return lambda first, most: 0
    name, boundary = kind

    def regime(first: int, most: int) -> Hashable:
        if most <= boundary:
            return "before"
        return "behind" if first > boundary and name == "longrope" else first

    return regime
