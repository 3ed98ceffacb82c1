"""The base of everything that a user configures: frozen, closed (unknown keys are errors), hashed."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from schemas.digest import digest_json

#: Slugs name partitions and folders: no `|`, comma, slash, brackets or `...`.
Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$", max_length=80)]


class Spec(BaseModel):
    """Base of all specs. `spec_hash` covers every field but the prose (`description`)."""

    # a number that is none would pass every bound
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @property
    def spec_hash(self) -> str:
        """Hash of the spec: a changed setting is a changed hash, a changed description is not."""
        return digest_json(without_prose(self.model_dump(mode="json")))


def without_prose(value: Any) -> Any:
    """A dumped spec without its descriptions."""
    if isinstance(value, dict):
        return {k: without_prose(v) for k, v in value.items() if k != "description"}
    if isinstance(value, list):
        return [without_prose(v) for v in value]
    return value
