"""Settings that a sweep leaves out: fields of its arms with the values that are not wanted.

`{role: random, strength: [-2, 2]}` leaves out the random arms at both strengths: an arm goes where every named field
has one of its values. Layers are sets: `3` is layer 3 alone, `[[1, 2]]` is layers 1 and 2 together.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from schemas.specs import SweepSpec
from schemas.sweeps import ROLES
from steer_core.tables.errors import ConfigError

#: Fields that an exclusion may name.
EXCLUDABLE = ("behavior", "role", "strength", "unit", "layers", "site", "positions", "seed", "system")


def check_exclusions(sweep: SweepSpec) -> None:
    """Whether every exclusion names fields that arms have, and roles that there are.

    Raises:
        ConfigError: an unknown field or role, or none at all.
    """
    for exclusion in sweep.exclude:
        unknown = sorted(set(exclusion) - set(EXCLUDABLE))
        if unknown or not exclusion:
            named = ", ".join(map(repr, unknown)) or "nothing"
            raise ConfigError(f"an exclusion of the sweep names {named}; it may name {', '.join(EXCLUDABLE)}")
        if odd := [r for r in _options(exclusion.get("role", ())) if r not in ROLES]:
            raise ConfigError(f"an exclusion of the sweep names the role {odd[0]!r}; there are: {', '.join(ROLES)}")


def excluded(arm: Mapping[str, Any], sweep: SweepSpec) -> bool:
    """Whether an exclusion of the sweep applies to an arm (a row of `sweep_arms`)."""
    return any(all(_has(arm[f], f, values) for f, values in e.items()) for e in sweep.exclude)


def _has(value: Any, field: str, values: Any) -> bool:
    options = _options(values)
    if field == "layers":
        return json.loads(value) in [list(o) if isinstance(o, (list, tuple)) else [o] for o in options]
    return value in options


def _options(values: Any) -> Sequence[Any]:
    return values if isinstance(values, (list, tuple)) else [values]
