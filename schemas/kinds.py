"""Specs that come in kinds: `kind` in the configuration chooses the class that reads the rest.

A kind is a subclass of a base, ours or another package's. Nothing lists the kinds: a subclass is known from when it is
defined, and those of installed packages are found by their entry points.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from typing import Any, ClassVar

from schemas.spec import Spec


class OfKind(Spec):
    """Base of such bases. A base sets `KINDS`, `WHAT` and `GROUP`; a kind declares `kind: Literal["..."] = "..."`."""

    KINDS: ClassVar[dict[str, type[Any]]] = {}
    #: What a kind is of, in messages; and the entry points that kinds of packages are found by.
    WHAT: ClassVar[str] = ""
    GROUP: ClassVar[str] = ""

    kind: str

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """A kind reads the entries of its name from now on; a base, whose kind is open, reads none."""
        super().__pydantic_init_subclass__(**kwargs)
        if not cls.model_fields["kind"].is_required():
            cls.KINDS[str(cls.model_fields["kind"].default)] = cls


def read_kind(base: type[OfKind], value: Any) -> Any:
    """The spec of a kind; what is no mapping is left to be refused.

    Raises:
        ValueError: no kind of that name; lists those there are.
    """
    if not isinstance(value, Mapping):
        return value
    kind = value.get("kind")
    if kind not in base.KINDS:
        for entry in importlib.metadata.entry_points(group=base.GROUP):
            if entry.name.replace("-", "_") == str(kind).replace("-", "_"):
                entry.load()
    if kind not in base.KINDS:
        raise ValueError(f"unknown {base.WHAT} {kind!r}; there are: {', '.join(sorted(base.KINDS))}")
    return base.KINDS[kind].model_validate(dict(value))
