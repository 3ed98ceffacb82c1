"""Which layers a part means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from steer_core.tables.errors import ConfigError


def resolve_layers(layers: Sequence[int] | Literal["all", "middle"], n_layers: int, where: str = "") -> tuple[int, ...]:
    """0-based layers of a part; `middle` is layer n // 2.

    Args:
        layers: as they are configured.
        n_layers: of the model.
        where: what begins messages: the setting, where it is none of the part's own.

    Raises:
        ConfigError: a layer that the model does not have, or one that is named twice.
    """
    if layers == "all":
        return tuple(range(n_layers))
    if layers == "middle":
        return (n_layers // 2,)
    for layer in layers:
        if not 0 <= int(layer) < n_layers:
            raise ConfigError(f"{where}there is no layer {layer}: the model has layers 0 to {n_layers - 1}")
    if not layers or len(set(layers)) < len(layers):
        raise ConfigError(f"{where}layers must be named once each, and at least one; got {list(layers)}")
    return tuple(int(layer) for layer in layers)
