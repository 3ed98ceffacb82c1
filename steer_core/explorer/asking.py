"""What an address asks for: parameters by name, read with an error in words."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from steer_core.tables.errors import ConfigError

#: Parameters of an address: name -> values.
Given = Mapping[str, Sequence[str]]


def one(given: Given, name: str) -> str:
    """The last value that is said; empty without one."""
    return next((v for v in reversed(list(given.get(name, ()))) if v), "")


def several(given: Given, name: str) -> list[str]:
    """All values that are said, each once."""
    return list(dict.fromkeys(v for v in given.get(name, ()) if v))


def whole(given: Given, name: str, plain: int) -> int:
    """A whole number.

    Raises:
        ConfigError: it is none.
    """
    value = one(given, name)
    try:
        return int(value) if value else plain
    except ValueError as error:
        raise ConfigError(f"{name}={value!r} is no whole number") from error


def check(name: str, values: Collection[str], known: Collection[str]) -> None:
    """Refuse values that mean nothing.

    Raises:
        ConfigError: says which there are.
    """
    if odd := [v for v in values if v not in known]:
        raise ConfigError(f"{name}={odd[0]!r}: it takes {', '.join(known) or 'nothing yet'}")
