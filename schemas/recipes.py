"""Recipes: typed settings of the ways to train an adapter, with the published defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from schemas.adapter_part import Recipe
from schemas.spec import Options

#: What a completion can be rewarded for; `goal:NAME` is the error on one goal.
REWARDS = ("steering_error", "miscalibration", "orthogonality", "meaning", "english_only", "think_format")


class GrpoRecipe(Recipe):
    """Group-relative policy optimisation (Shao et al. 2024) on the goal space (Chang et al. 2025), by trl.

    Defaults are those of the published steering runs where they have one; `embedded` are for the model that ships.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "embedded": {
            "steps": 75,
            "learning_rate": 2e-3,
            "scale": "group",
            "prompts_per_step": 8,
            "completions": 8,
            "beta": 0.01,
            "max_new_tokens": 96,
            "min_p": 0.0,
            "warmup": 0.05,
            "checkpoints": 4,
            "lora": {"rank": 16, "alpha": 32.0},
        }
    }

    kind: Literal["grpo"] = "grpo"
    rewards: Mapping[str, float] = Field(
        default_factory=lambda: {"steering_error": 1.0},
        description="Reward -> weight; one of weight 0 is looked at and not optimised",
    )
    shape: Literal["linear", "square", "decile"] = Field(
        "linear", description="Of errors in the reward: as they are, squared, or rounded up to tenths"
    )
    good_enough: float = Field(0.0, ge=0.0, lt=1.0, description="Error of a goal below which less is worth nothing")
    too_bad: float | None = Field(None, gt=0.0, description="Error of a goal above which more costs nothing")
    rescale: bool = Field(False, description="Rewards of errors as 1 - error / sqrt(goals), or 1 - squares / goals")
    failures: Literal["worst", "left_out"] = Field(
        "worst", description="What an answer that is none is worth: the worst there is, as on the probe, or nothing"
    )
    steps: int = Field(384, gt=0, description="Optimiser steps")
    prompts_per_step: int = Field(4, gt=0, description="Requests of a step")
    completions: int = Field(16, gt=1, description="Completions of a request that are trained on")
    drawn: int | None = Field(
        None, gt=1, description="Completions that are drawn, of which `completions` are kept; null: no more than these"
    )
    keep: Literal["extremes", "pareto"] = Field(
        "extremes", description="Which are kept: the best and the worst by reward, or the fronts over all rewards first"
    )
    learning_rate: float = Field(2.5e-7, gt=0.0)
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup: float = Field(0.2, ge=0.0, lt=1.0, description="Share of the steps over which the learning rate rises")
    weight_decay: float = Field(0.1, ge=0.0)
    betas: tuple[float, float] = Field((0.9, 0.99), description="Of AdamW")
    grad_norm: float = Field(1.0, gt=0.0, description="Gradients are clipped to it")
    beta: float = Field(0.01, ge=0.0, description="Weight of the divergence from the model without the adapter")
    epsilon: float = Field(0.2, gt=0.0, lt=1.0, description="Lower clipping of the likelihood ratio")
    epsilon_high: float = Field(0.3, gt=0.0, description="Upper clipping")
    loss: Literal["grpo", "dapo", "dr_grpo", "bnpo"] = Field("grpo", description="How tokens are averaged")
    scale: Literal["none", "group", "batch"] = Field("none", description="What advantages are divided by")
    aggregate: Literal["sum_then_normalize", "normalize_then_sum"] = Field(
        "sum_then_normalize", description="How several rewards become one advantage"
    )
    inner_steps: int = Field(1, gt=0, description="Optimiser steps on one set of completions")
    temperature: float = Field(1.0, gt=0.0)
    min_p: float = Field(0.2, ge=0.0, lt=1.0)
    max_new_tokens: int = Field(1024, gt=0)
    most_drift: float = Field(
        0.02, gt=0.0, description="Mean difference (nats) of sampled and trained log-probabilities that stops the run"
    )
    trl: Options = Field(
        default_factory=dict, description="Further settings of trl's `GRPOConfig`, as they are called there"
    )

    @model_validator(mode="after")
    def _can_be_run(self) -> GrpoRecipe:
        for name, weight in self.rewards.items():
            if name not in REWARDS and not name.startswith("goal:"):
                raise ValueError(f"unknown reward {name!r}; there are: {', '.join(REWARDS)}, goal:NAME")
            if weight < 0:
                raise ValueError(f"reward {name!r} has weight {weight}: rewards are better the larger they are")
        if not any(self.rewards.values()):
            raise ValueError("all rewards have weight 0: nothing would be learnt")
        if self.drawn is not None and self.drawn <= self.completions:
            raise ValueError(f"drawn = {self.drawn} of which completions = {self.completions} are kept: draw more")
        if self.too_bad is not None and self.too_bad <= self.good_enough:
            raise ValueError("`too_bad` must be above `good_enough`")
        if own := sorted(set(self.trl) & OWN):
            raise ValueError(f"`trl` may not set {', '.join(own)}: the recipe has settings for that")
        return self


#: Settings of trl that the recipe decides.
OWN = {
    "output_dir", "max_steps", "num_train_epochs", "learning_rate", "lr_scheduler_type", "warmup_ratio", "warmup_steps",
    "weight_decay", "adam_beta1", "adam_beta2", "max_grad_norm", "beta", "epsilon", "epsilon_high", "loss_type",
    "scale_rewards", "multi_objective_aggregation", "num_iterations", "temperature", "min_p", "max_completion_length",
    "num_generations", "generation_batch_size", "steps_per_generation", "per_device_train_batch_size", "seed",
    "data_seed", "shuffle_dataset", "save_strategy", "save_steps", "save_total_limit", "reward_weights",
    "remove_unused_columns",
}  # fmt: skip
