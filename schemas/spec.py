"""The base of everything that a user configures: frozen, closed (unknown keys are errors), hashed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from schemas.digest import digest_json

#: Slugs name partitions and folders: no `|`, comma, slash, brackets or `...`.
Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$", max_length=80)]


def _a_name(slug: str) -> str:
    """Refuse a name that readers of tables would take for something else: partitions are folders like `model=007`.

    Raises:
        ValueError: says what to write instead.
    """
    if re.fullmatch(r"[0-9][0-9._-]*|[0-9.]+e-?[0-9]+|nan|inf|infinity|true|false|null|none", slug):
        raise ValueError(f"{slug!r} would be read from the tables' folders as a number or a date: add a letter")
    return slug


#: A slug that names a partition.
PartitionName = Annotated[Slug, AfterValidator(_a_name)]


class Spec(BaseModel):
    """Base of all specs. `spec_hash` covers every field but the prose (`description`)."""

    # a number that is none would pass every bound
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any) -> Any:
        """`true` would count as 1; as a text it is refused by its field, like everything else that is wrong."""
        if not isinstance(value, Mapping):
            return value
        return {k: _truth_in_words(v) if k in _numbers_of(cls) else v for k, v in value.items()}

    @property
    def spec_hash(self) -> str:
        """Hash of the spec: a changed setting is a changed hash, a changed description is not."""
        return digest_json(without_prose(self.model_dump(mode="json")))


@cache
def _numbers_of(spec: type[Spec]) -> frozenset[str]:
    """Fields that are numbers, or lists and mappings of them."""
    kinds = {name: set(_kinds(field.annotation)) for name, field in spec.model_fields.items()}
    return frozenset(name for name, known in kinds.items() if {int, float} & known and not {bool, Any} & known)


def _kinds(annotation: Any) -> Iterator[Any]:
    """A field's type and the types inside it."""
    yield annotation
    for inner in get_args(annotation):
        yield from _kinds(inner)


def _truth_in_words(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return {k: _truth_in_words(v) for k, v in value.items()}
    return [_truth_in_words(v) for v in value] if isinstance(value, list | tuple) else value


def _finite(settings: dict[str, Any]) -> dict[str, Any]:
    """Refuse settings that hold a number that is none, at any depth: they have no JSON and no hash.

    Raises:
        ValueError: names the setting.
    """
    for name, value in settings.items():
        try:
            json.dumps(value, allow_nan=False, default=str)
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"{name!r} cannot be written as JSON: {error}") from error
    return settings


#: Settings whose names another module knows.
Options = Annotated[dict[str, Any], AfterValidator(_finite)]


def _each_once(values: Any) -> Any:
    """Refuse a list that names something twice.

    Raises:
        ValueError: says what.
    """
    if values is not None and len(set(values)) < len(values):
        twice = next(v for k, v in enumerate(values) if v in values[:k])
        raise ValueError(f"{twice!r} stands twice")
    return values


#: Of a field whose values are named once each.
EACH_ONCE = AfterValidator(_each_once)


def without_prose(value: Any) -> Any:
    """A dumped spec without its descriptions."""
    if isinstance(value, dict):
        return {k: without_prose(v) for k, v in value.items() if k != "description"}
    if isinstance(value, list):
        return [without_prose(v) for v in value]
    return value
