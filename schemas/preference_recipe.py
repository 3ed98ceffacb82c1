"""Settings of adapters that are trained on preferences: DPO, IPO, KTO, ORPO."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from schemas.behaviors import PairsBehavior
from schemas.profile_sets import PromptsSet
from schemas.recipes import InheritanceRecipe
from schemas.spec import Options

#: Settings of trl's trainers that the recipe decides.
OWN = {
    "beta", "loss_type", "precompute_ref_log_probs", "ref_model", "disable_dropout", "padding_value", "pad_token",
    "sync_ref_model", "max_completion_length",
}  # fmt: skip


class PreferenceRecipe(InheritanceRecipe):
    """Preference tuning by trl: DPO (Rafailov et al. 2023), IPO (Azar et al. 2023), KTO (Ethayarajh et al. 2024), ORPO.

    The model writes k answers to each training request; the best and the worst by the objectives are a pair. With
    `select: random` two by chance are: the control of the same cost. With `pairs` nothing is drawn: those of the
    file are trained on, but for those that are to test. Defaults are trl's; `embedded` is for the model that ships.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "embedded": {
            "samples": 8,
            "max_new_tokens": 96,
            "epochs": 3,
            "batch": 16,
            "learning_rate": 1e-3,
            "lora": {"rank": 16, "alpha": 32.0},
        }
    }

    kind: Literal["preference"] = "preference"  # type: ignore[assignment]  # a recipe of its own
    loss: Literal["dpo", "ipo", "kto", "orpo"] = Field("dpo", description="What is minimised")
    beta: float = Field(0.1, gt=0.0, description="Pull towards the model without the adapter; of `orpo` its lambda")
    learning_rate: float = Field(1e-5, gt=0.0)
    pairs: PairsBehavior | None = Field(
        None, description="File of pairs to train on, in place of answers that are drawn and ranked"
    )
    trl: Options = Field(
        default_factory=dict,
        description="Further settings of trl's `DPOConfig`, `KTOConfig` or `ORPOConfig`, as they are called there",
    )

    def files(self) -> tuple[str, ...]:
        """The files of `prompts` and of `pairs`."""
        own = () if self.pairs is None else tuple(f for f in (self.pairs.path, self.pairs.test) if f is not None)
        return (*super().files(), *own)

    def asked(self) -> PromptsSet | None:
        """`prompts`."""
        return self.prompts

    def draws(self, requests: int) -> tuple[int, int]:
        """As inheritance; none where pairs are given."""
        return (0, 0) if self.pairs is not None else super().draws(requests)

    def draws_answers(self) -> bool:
        """Unless pairs are given."""
        return self.pairs is None

    @model_validator(mode="after")
    def _pairs_can_be_made(self) -> PreferenceRecipe:
        if own := sorted(set(self.trl) & OWN):
            raise ValueError(f"`trl` may not set {', '.join(own)}: the recipe has settings for that")
        if self.pairs is None and self.samples * max(1, len(self.models)) < 2:
            raise ValueError("samples = 1 makes no pair: draw more, or give `pairs`")
        if self.pairs is not None:
            if self.prompts is not None or self.models:
                raise ValueError("with `pairs` nothing is drawn: leave `prompts` and `models` out")
            for path in (self.pairs.path, self.pairs.test):
                if path is not None and not path.startswith(("/", "~")):
                    raise ValueError(f"the path of `pairs`, {path!r}, is relative, and to what is not said")
        if self.loss == "kto" and self.batch < 2:
            raise ValueError("kto holds answers against prompts that they do not belong to: `batch` is at least 2")
        return self
