"""Settings that recipes share which draw answers and tune a model on them, token by token."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from schemas.adapter_part import Recipe
from schemas.spec import Options

#: Settings of trl's trainers that a recipe decides.
OWN_SHARED = {
    "output_dir", "max_steps", "num_train_epochs", "learning_rate", "lr_scheduler_type", "warmup_ratio", "warmup_steps",
    "weight_decay", "adam_beta1", "adam_beta2", "max_grad_norm", "per_device_train_batch_size", "seed", "data_seed",
    "shuffle_dataset", "save_strategy", "save_steps", "save_total_limit", "remove_unused_columns",
}  # fmt: skip

#: Rows are laid out token by token before trl sees them: none may be packed, cut or masked anew.
OWN_SFT = OWN_SHARED | {
    "train_sampling_strategy", "max_length", "packing", "padding_free", "truncation_mode", "dataset_kwargs",
    "completion_only_loss", "assistant_only_loss", "eos_token", "chat_template_path",
}  # fmt: skip


class TuningRecipe(Recipe):
    """Base of such recipes; no kind itself."""

    temperature: float = Field(1.0, gt=0.0)
    min_p: float = Field(0.0, ge=0.0, lt=1.0)
    max_new_tokens: int = Field(1024, gt=0)
    epochs: int = Field(3, gt=0, description="Times that each answer is trained on")
    batch: int = Field(16, gt=0, description="Answers of an optimiser step")
    learning_rate: float = Field(2e-4, gt=0.0)
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    warmup: float = Field(0.05, ge=0.0, lt=1.0, description="Share of the steps over which the learning rate rises")
    weight_decay: float = Field(0.0, ge=0.0)
    betas: tuple[float, float] = Field((0.9, 0.999), description="Of AdamW")
    grad_norm: float = Field(1.0, gt=0.0, description="Gradients are clipped to it")
    trl: Options = Field(
        default_factory=dict, description="Further settings of trl's `SFTConfig`, as they are called there"
    )

    @model_validator(mode="after")
    def _leaves_the_layout_alone(self) -> TuningRecipe:
        if own := sorted(set(self.trl) & OWN_SFT):
            raise ValueError(f"`trl` may not set {', '.join(own)}: the recipe has settings for that")
        return self
