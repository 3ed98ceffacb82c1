"""How a bench is kept up by itself."""

from __future__ import annotations

from pydantic import Field, field_validator, model_validator

from schemas.parts import Part
from schemas.spec import Options, Spec


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


class WatchedModels(Spec):
    """Models that stand on a bench because they lie in a folder, or on a list."""

    folder: str | None = Field(
        None, min_length=1, description="Folder of folders in the transformers format, each a model of that name"
    )
    listed: str | None = Field(
        None, min_length=1, description="Text file of hub ids, `org/name@revision` in a line; `#` begins a comment"
    )
    settings: Options = Field(
        default_factory=dict, description="What each entry of `models.yaml` would say beside `source` and `revision`"
    )

    @model_validator(mode="after")
    def _from_somewhere(self) -> WatchedModels:
        if self.folder is None and self.listed is None:
            raise ValueError("give a `folder`, or a file of ids as `listed`")
        if odd := {"name", "source", "revision"} & set(self.settings):
            raise ValueError(f"`settings` has {', '.join(sorted(odd))}, which each model has for itself")
        return self


class WatchedAdapters(Spec):
    """Adapters that stand on a bench as methods because they lie in a folder."""

    folder: str = Field(min_length=1, description="Folder of what PEFT's `save_pretrained` wrote, each a method")
    beside: tuple[Part, ...] = Field((), description="Parts that each of these methods has beside its adapter")


class WatchedSubmissions(Spec):
    """Answers made elsewhere that stand on a bench because they lie in a folder."""

    folder: str = Field(
        min_length=1, description="Folder of submissions: in each a `card.yaml`, and `answers` as Parquet, CSV or JSONL"
    )


class WatchSpec(Spec):
    """Where models, adapters and answers turn up by themselves."""

    models: WatchedModels | None = None
    adapters: WatchedAdapters | None = None
    submissions: WatchedSubmissions | None = None
