"""Settings that a sweep leaves out: fields of its arms with the values that are not wanted.

`{role: random, strength: [-2, 2]}` leaves out the random arms at both strengths: an arm goes where every named field
has one of its values. Layers are sets: `3` is layer 3 alone, `[[1, 2]]` is layers 1 and 2 together.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from schemas.specs import SweepSpec
from steer_core.tables.errors import ConfigError

#: Fields that an exclusion may name.
EXCLUDABLE = ("behavior", "role", "strength", "unit", "layers", "site", "positions", "seed", "system")


def check_exclusions(behavior: str, sweep: SweepSpec) -> None:
    """Whether every exclusion names fields that arms have.

    Raises:
        ConfigError: an unknown field, or none at all.
    """
    for exclusion in sweep.exclude:
        unknown = sorted(set(exclusion) - set(EXCLUDABLE))
        if unknown or not exclusion:
            named = ", ".join(map(repr, unknown)) or "nothing"
            raise ConfigError(
                f"behavior {behavior!r}: an exclusion of the sweep names {named}; it may name {', '.join(EXCLUDABLE)}"
            )


def excluded(arm: Mapping[str, Any], sweep: SweepSpec) -> bool:
    """Whether an exclusion of the sweep applies to an arm (a row of `sweep_arms`)."""
    return any(all(_has(arm[f], f, values) for f, values in e.items()) for e in sweep.exclude)


def _has(value: Any, field: str, values: Any) -> bool:
    options = values if isinstance(values, (list, tuple)) else [values]
    if field == "layers":
        return json.loads(value) in [list(o) if isinstance(o, (list, tuple)) else [o] for o in options]
    return value in options
