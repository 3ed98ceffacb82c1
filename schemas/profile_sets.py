"""Item sets of profiles: where items are read from, how many, and how they are asked."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from schemas.spec import EACH_ONCE, Slug, Spec

Origin = Literal["shipped", "file", "hub"]


class _FileSet(Spec):
    """A set that ships, or a local file in its published format."""

    path: str | None = Field(
        None, min_length=1, description="Path or fsspec URL of a file in the published format; null: what ships"
    )

    @property
    def origin(self) -> Origin:
        """Where items come from: a file where `path` is given, else what ships."""
        return "file" if self.path else "shipped"


class _RowsSet(_FileSet):
    """The same, or a data set of the Hugging Face hub; all rows of it, or some."""

    dataset: str | None = Field(None, min_length=1, description="Hub id, or path of a local dataset folder")
    config: str | None = Field(None, description="Configuration of the data set; null: the published one")
    split: str | None = Field(None, description="Split; null: the published one")
    revision: str | None = Field(None, description="Commit or tag of the data set")
    sample: int | None = Field(None, gt=0, description="Draw this many items, seeded")
    first: int | None = Field(None, gt=0, description="Keep the first items (after `sample`)")
    seed: int = Field(0, ge=0, description="Seed of whatever is drawn")

    @property
    def origin(self) -> Origin:
        """Where items come from: a file where `path` is given, the hub where `dataset` is, else what ships."""
        return "hub" if self.dataset else super().origin

    @model_validator(mode="after")
    def _one_place(self) -> _RowsSet:
        if self.path and self.dataset:
            raise ValueError(f"`path` ({self.path}) and `dataset` ({self.dataset}) are two places: give one")
        given = [name for name in ("config", "split", "revision") if getattr(self, name) is not None]
        if given and not self.dataset:
            raise ValueError(f"`{given[0]}` is of a hub data set: give its `dataset` too, or leave it out")
        return self


class _AskedSet(_RowsSet):
    """The same, asked as raw text or in a chat, with solved examples in front or without."""

    chat: bool = Field(False, description="Ask in a user turn; false: raw text without a chat template")
    shots: int = Field(
        0, ge=0, description="Solved items of the same rows in front, of other clusters, drawn by seed for each item"
    )


class BbqSet(_AskedSet):
    """BBQ (Parrish et al. 2022): JSON lines as published, any of the categories."""

    kind: Literal["bbq"] = "bbq"


class StereoSetSet(_RowsSet):
    """StereoSet (Nadeem et al. 2021), sentences of its intrasentence task."""

    kind: Literal["stereoset"] = "stereoset"


class CrowsPairsSet(_RowsSet):
    """CrowS-Pairs (Nangia et al. 2020): CSV as published."""

    kind: Literal["crows-pairs"] = "crows-pairs"


class SeatSet(_FileSet):
    """Tests of association (Caliskan et al. 2017; May et al. 2019): a JSON file each, or a folder of them."""

    kind: Literal["seat"] = "seat"
    tests: Annotated[tuple[str, ...] | None, EACH_ONCE] = Field(
        None, min_length=1, description="Names of tests to keep (a file's name without its ending); null: all"
    )
    types: dict[str, str] = Field(
        default_factory=dict, description="Test -> type of bias, over what the file or the published name says"
    )


Layout = Literal["table", "hellaswag", "openbookqa", "truthfulqa-mc1", "truthfulqa-mc2", "yes-no"]


class ChoicesSet(_AskedSet):
    """Questions with options to choose from."""

    kind: Literal["choices"] = "choices"
    shipped: Literal["plain-facts", "tales-facts"] = Field("plain-facts", description="Which of those that ship")
    n: int = Field(120, gt=0, description="Items of `tales-facts` to draw")
    layout: Layout = Field("table", description="Columns of the file or data set")
    answer: Literal["auto", "index", "letter", "text"] = Field(
        "auto", description="How a table names the right option; auto: by what fits, an error where two readings do"
    )
    template: str | None = Field(
        None,
        description="Raw prompt with `{question}` in it; null: the bare question for hellaswag, openbookqa and "
        "tales-facts, as published, else a question and `Answer:`",
    )

    @model_validator(mode="after")
    def _holds_the_question(self) -> ChoicesSet:
        if self.template is not None and "{question}" not in self.template:
            raise ValueError(f"template {self.template!r} does not say where the question goes: write {{question}}")
        return self


class PromptsSet(_RowsSet):
    """Prompts to be answered or continued."""

    kind: Literal["prompts"] = "prompts"
    shipped: Literal["open-questions", "continuations", "tales-prompts"] = Field(
        "open-questions", description="Which of those that ship"
    )
    n: int = Field(64, gt=0, description="Items of `tales-prompts` to draw")
    column: str | None = Field(
        None, description="Column of the prompt; null: the first there is of prompt, inputs, question, text"
    )
    group: str = Field("group", min_length=1, description="Column that is reported apart, where rows have it")
    keep: tuple[str, ...] = Field((), description="Further columns to keep in `facts`")
    side: Literal["train", "test"] | None = Field(
        None,
        description="Only the items of one side of an even split by a hash of the prompt, case and white space aside: "
        "what is trained on one side is not asked on the other. Null: all",
    )
    chat: bool = Field(True, description="Ask in a user turn; false: raw text without a chat template")
    continuation: Literal["user-turn", "raw"] | None = Field(
        None,
        description="The prompt is the beginning of a text: ask in the user's turn to continue it, or put it there as "
        "raw text, whatever `chat` says. Null: as `chat` says, and `user-turn` for the shipped `continuations`",
    )


class SafetySet(_RowsSet):
    """Requests that look harmful and are not, and requests that are, by topic."""

    kind: Literal["safety"] = "safety"
    chat: bool = Field(True, description="Ask in a user turn; false: raw text without a chat template")


AnySet = BbqSet | StereoSetSet | CrowsPairsSet | SeatSet | ChoicesSet | PromptsSet | SafetySet
#: One item set of a configuration, told apart by `kind`.
ItemSetSpec = Annotated[AnySet, Field(discriminator="kind")]
#: Of the tests that are published under these names (Meade et al. 2022).
SEAT_TYPES: dict[str, tuple[Slug, ...]] = {
    "gender": ("sent-weat6", "sent-weat6b", "sent-weat7", "sent-weat7b", "sent-weat8", "sent-weat8b"),
    "race": (
        "sent-angry_black_woman_stereotype",
        "sent-angry_black_woman_stereotype_b",
        "sent-weat3",
        "sent-weat3b",
        "sent-weat4",
        "sent-weat5",
        "sent-weat5b",
    ),
    "religion": ("sent-religion1", "sent-religion1b", "sent-religion2", "sent-religion2b"),
}
