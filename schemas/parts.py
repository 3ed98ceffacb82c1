"""What a method is made of: parts, each of a kind. A kind is a `PartSpec` subclass, ours or another package's.

`kind` in the configuration chooses the spec that reads the rest. Nothing here or elsewhere lists the kinds: a subclass
is known from when it is defined, and kinds of installed packages are found by the entry point `steerworks.parts`.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny

from schemas.spec import Options, Slug, Spec


class PartSpec(Spec):
    """Base of the settings of one part. A subclass declares `kind: Literal["..."] = "..."` and its own fields."""

    KINDS: ClassVar[dict[str, type[PartSpec]]] = {}

    kind: str

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """A subclass reads the entries of its kind from now on."""
        super().__pydantic_init_subclass__(**kwargs)
        PartSpec.KINDS[str(cls.model_fields["kind"].default)] = cls


def read_part(value: Any) -> Any:
    """The spec of a part, read by its kind; what is no mapping is left to be refused.

    Raises:
        ValueError: no kind of that name; lists those there are.
    """
    if not isinstance(value, Mapping):
        return value
    kind = value.get("kind")
    if kind not in PartSpec.KINDS:
        for entry in importlib.metadata.entry_points(group="steerworks.parts"):
            if entry.name.replace("-", "_") == str(kind).replace("-", "_"):
                entry.load()
    if kind not in PartSpec.KINDS:
        raise ValueError(f"unknown kind {kind!r} of part; there are: {', '.join(sorted(PartSpec.KINDS))}")
    return PartSpec.KINDS[kind].model_validate(dict(value))


#: A part as a field of another spec: dumped with the fields of its own kind.
Part = Annotated[SerializeAsAny[PartSpec], BeforeValidator(read_part)]


class PromptPart(PartSpec):
    """A prompt strategy and its options."""

    kind: Literal["prompt"] = "prompt"
    strategy: Slug = Field(description="An extension of the group `prompts`")
    options: Options = Field(default_factory=dict, description="Arguments of the strategy")
