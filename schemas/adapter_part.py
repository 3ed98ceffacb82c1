"""Settings of the adapter part: an adapter that is there already, or the recipe that it is trained by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator

from schemas.kinds import OfKind, read_kind
from schemas.parts import PartSpec, PromptPart
from schemas.profile_sets import PromptsSet
from schemas.spec import Spec


class LoraSpec(Spec):
    """A low-rank adapter (Hu et al. 2021), as PEFT has it."""

    rank: Annotated[int, Field(gt=0)] | Literal["full"] = Field(
        16,
        description="Rank of the update; `full`: each layer learns as a whole, as in full fine-tuning, at scale 1, and "
        "embeddings and norms stay",
    )
    alpha: float = Field(32.0, gt=0.0, description="Scale: the update counts alpha / rank, or alpha / sqrt(rank)")
    rank_stabilized: bool = Field(False, description="alpha / sqrt(rank) (Kalajdzievski 2023)")
    modules: tuple[str, ...] | Literal["all-linear"] = Field(
        "all-linear", description="Linear layers that it sits on, by the end of their names"
    )

    @model_validator(mode="after")
    def _has_a_scale(self) -> LoraSpec:
        if self.rank == "full" and self.rank_stabilized:
            raise ValueError("`rank: full` has the scale 1: leave `rank_stabilized` out")
        return self


class Recipe(OfKind):
    """Base of the ways to train."""

    KINDS: ClassVar[dict[str, type[Any]]] = {}
    WHAT = "recipe"
    GROUP = "steerworks.recipes"
    #: preset -> its values of settings, which stand where the configuration says nothing.
    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    preset: str | None = Field(None, description="A set of defaults: see the recipe's presets")
    lora: LoraSpec = Field(default_factory=lambda: LoraSpec.model_validate({}))
    seed: int = Field(0, ge=0, description="Of first weights, order and sampling")
    checkpoints: int = Field(4, gt=0, description="States that are kept, evenly spaced, the last one included")

    def named(self) -> tuple[tuple[str, str], ...]:
        """(what it is, name) of what the recipe looks at; of a name `goal:NAME` the bench must have the goal."""
        return ()

    def draws(self, requests: int) -> tuple[int, int]:
        """Answers that training on so many requests draws at most, and the tokens of all of them at most."""
        return 0, 0

    def writers(self, own: str) -> tuple[str, ...]:
        """Names of the models of the configuration that write what it draws, each as many answers as `draws` says.

        Args:
            own: name of the model that is trained.
        """
        return (own,)

    def asked(self) -> PromptsSet | None:
        """Prompts that it is trained on in place of the training requests; None: those."""
        return None

    def under(self, prompt: PromptPart | None) -> Iterator[str]:
        """Why it cannot train under the prompt of its method, in words; none where it can.

        Args:
            prompt: the method's prompt strategy with its options; None: the plain rewrite.
        """
        return iter(())

    def also_under(self) -> tuple[str, ...]:
        """Prompt strategies, beside the method's own, whose prompts of the training requests the recipe is given."""
        return ()

    def files(self) -> tuple[str, ...]:
        """Files whose content training follows from."""
        return ()

    def states(self) -> int:
        """Most states that a run leaves."""
        return self.checkpoints

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, value: Any) -> Any:
        name = value.get("preset") if isinstance(value, Mapping) else None
        if name is None:
            return value
        if name not in cls.PRESETS:
            known = ", ".join(sorted(cls.PRESETS)) or "none"
            raise ValueError(f"unknown preset {name!r}; recipe {cls.model_fields['kind'].default!r} has: {known}")
        return {**cls.PRESETS[name], **value}


def read_recipe(value: Any) -> Any:
    """The spec of a recipe (`read_kind`)."""
    return read_kind(Recipe, value)


class AdapterPart(PartSpec):
    """An adapter that the model wears: from a folder, the hub or a server, or trained on the training pool."""

    kind: Literal["adapter"] = "adapter"
    folder: str | None = Field(
        None, description="What PEFT's `save_pretrained` wrote, or a folder of such folders: checkpoints of one run"
    )
    hub: str | None = Field(
        None,
        pattern=r"^[\w.-]+/[\w.-]+$",
        description="Repository of the Hugging Face hub, `org/name`, with what a `folder` holds",
    )
    revision: str | None = Field(None, min_length=1, description="Commit, tag or branch of it; required for `hub`")
    served: str | None = Field(
        None,
        pattern=r"^\S+$",
        description="What the vLLM server at the model's `vllm.address` calls it: one that it lists already; `*`: all "
        "that it lists, each of them a state as checkpoints are",
    )
    recipe: Annotated[SerializeAsAny[Recipe], BeforeValidator(read_recipe)] | None = Field(
        None, description="How it is trained"
    )
    trial_texts: int = Field(32, gt=1, description="Texts of the training pool that the checkpoint is chosen on")
    checkpoints_on_probe: bool = Field(
        True,
        description="Whether the model without the adapter, and all checkpoints, are measured on the probe as arms",
    )

    def beside(self, others: Sequence[PartSpec]) -> Iterator[str]:
        """What its recipe has against the method's prompt."""
        if self.recipe is not None:
            yield from self.recipe.under(next((p for p in others if isinstance(p, PromptPart)), None))

    @model_validator(mode="after")
    def _one_origin(self) -> AdapterPart:
        if sum(origin is not None for origin in (self.folder, self.hub, self.served, self.recipe)) != 1:
            raise ValueError(
                "an adapter is in a `folder`, on the `hub`, `served` by a server, or trained by a `recipe`: give "
                "exactly one of them"
            )
        if self.folder is not None and not self.folder.startswith(("/", "~")):
            raise ValueError(
                f"folder {self.folder!r} is relative, and to what is not said: write the whole path; a repository of "
                "the hub is a `hub`"
            )
        if (self.hub is None) != (self.revision is None):
            raise ValueError("`hub` and `revision` belong together: a repository changes, a commit does not")
        return self
