"""What a method is made of: parts, each of a kind. A kind is a `PartSpec` subclass, ours or another package's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny

from schemas.kinds import OfKind, read_kind
from schemas.spec import Options, Slug


class PartSpec(OfKind):
    """Base of the settings of one part."""

    KINDS: ClassVar[dict[str, type[Any]]] = {}
    WHAT = "kind of part"
    GROUP = "steerworks.parts"

    def beside(self, others: Sequence[PartSpec]) -> Iterator[str]:
        """What is wrong with it beside the other parts of its method, in words; known from their settings alone."""
        return iter(())


def read_part(value: Any) -> Any:
    """The spec of a part (`read_kind`)."""
    return read_kind(PartSpec, value)


#: A part as a field of another spec: dumped with the fields of its own kind.
Part = Annotated[SerializeAsAny[PartSpec], BeforeValidator(read_part)]


class PromptPart(PartSpec):
    """A prompt strategy and its options."""

    kind: Literal["prompt"] = "prompt"
    strategy: Slug = Field(description="An extension of the group `prompts`")
    options: Options = Field(default_factory=dict, description="Arguments of the strategy")
