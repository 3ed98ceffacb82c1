"""Content that cannot be read is one error that names it, whatever went wrong inside."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar

import pydantic

from steer_core.tables.errors import SteerworksError

T = TypeVar("T")
P = ParamSpec("P")


@contextmanager
def reading(what: str, kind: type[SteerworksError] = SteerworksError) -> Iterator[None]:
    """Errors of content that is read inside become one that begins with what is read.

    Args:
        what: what is read: a file, a row.
        kind: class of errors that are not ours yet.
    """
    try:
        yield
    except SteerworksError as error:
        if what in str(error):
            raise
        raise type(error)(f"{what}: {error}") from error
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        raise kind(f"{what} is damaged: {_said(error)}; make it again, or take a whole copy") from error


def names_its_file(read: Callable[P, T]) -> Callable[P, T]:
    """A reader of files, all of whose errors name the file: its first argument, `path`."""

    @functools.wraps(read)
    def named(*args: P.args, **kwargs: P.kwargs) -> T:
        with reading(str(Path(str(kwargs.get("path", args[0] if args else ""))).expanduser())):
            return read(*args, **kwargs)

    return named


def _said(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"it lacks {error}"
    if isinstance(error, json.JSONDecodeError):
        return f"no valid JSON: {error}"
    if isinstance(error, pydantic.ValidationError):
        return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
    said = (str(error).splitlines() or [type(error).__name__])[0]
    return f"something in it is of another kind ({said})" if isinstance(error, TypeError | AttributeError) else said
