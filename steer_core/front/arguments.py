"""Arguments of the front door, looked at before anything is done: what is wrong is said by their names."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from pathlib import Path
from typing import Any, TypeVar

import pydantic

from schemas.spec import Spec
from steer_core.tables.errors import ConfigError, SteerworksError

SpecT = TypeVar("SpecT", bound=Spec)


def spec_of(kind: type[SpecT], what: str, **settings: Any) -> SpecT:
    """A spec made of arguments.

    Raises:
        ConfigError: an argument makes no sense; names each.
    """
    try:
        return kind.model_validate(settings)
    except pydantic.ValidationError as error:
        said = "; ".join(f"{'.'.join(map(str, e['loc'])) or what}: {e['msg']}" for e in error.errors())
        raise ConfigError(f"{what}: {said}") from error


def whole(name: str, value: Any, least: int) -> int:
    """A whole number.

    Raises:
        ConfigError: it is none, or below the least that it can be.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ConfigError(f"{name} is a whole number, at least {least}; got {value!r}")
    return int(value)


def text(name: str, value: Any) -> str:
    """A text that a file and a tokenizer take.

    Raises:
        SteerworksError: it is none, or holds half a character.
    """
    if not isinstance(value, str):
        raise SteerworksError(f"{name} must be a text, and is {value!r}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise SteerworksError(f"{name} holds half a character (a lone surrogate) at {error.start}") from error
    return value


def instance(name: str, value: Any, kind: Any, how: str) -> None:
    """Refuse what is of another class.

    Raises:
        ConfigError: it is; says how to get one.
    """
    if not isinstance(value, kind):
        raise ConfigError(f"{name} is {type(value).__name__}, and must be {how}")


def folders(config: Sequence[str]) -> tuple[str, ...]:
    """Configuration folders.

    Raises:
        ConfigError: one text instead of a list.
    """
    if isinstance(config, str | Path) or not isinstance(config, Sequence):
        raise ConfigError(f"config is a list of folders; got {config!r}: write [{str(config)!r}]")
    return tuple(map(str, config))
