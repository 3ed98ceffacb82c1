"""How a bench is kept up by itself."""

from __future__ import annotations

from pydantic import Field, field_validator

from schemas.spec import Spec


class WeeklySpec(Spec):
    """When the cells of a bench are brought up to date, and what that may take."""

    cron: str = Field("0 5 * * 1", description="When, in UTC: minute, hour, day of the month, month, day of the week")
    max_new_tokens: int | None = Field(
        None,
        gt=0,
        description="Tokens that the cells of one time may write, by what each wrote last; others wait; null: no limit",
    )

    @field_validator("cron")
    @classmethod
    def _five_fields(cls, cron: str) -> str:
        if len(cron.split()) != 5:
            raise ValueError(f"`cron` is {cron!r}: it takes five fields, e.g. `0 5 * * 1` for Mondays at five")
        return cron
