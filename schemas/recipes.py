"""Recipes: typed settings of the ways to train an adapter, with the published defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from schemas.adapter_part import Recipe
from schemas.objectives import OF_REQUESTS, Floor, Objective, scorer_metric
from schemas.profile_sets import PromptsSet
from schemas.spec import Options
from schemas.tuning import OWN_SHARED, TuningRecipe

#: What a completion can be rewarded for; `goal:NAME` is the error on one goal.
REWARDS = ("steering_error", "miscalibration", "orthogonality", "meaning", "english_only", "think_format")


class GrpoRecipe(Recipe):
    """Group-relative policy optimisation (Shao et al. 2024) on the goal space (Chang et al. 2025), by trl.

    Defaults are those of the published steering runs where they have one; `embedded` are for the model that ships.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "embedded": {
            "steps": 75,
            "learning_rate": 1.2e-3,
            "schedule": "linear",
            "weight_decay": 0.0,
            "scale": "group",
            "prompts_per_step": 8,
            "completions": 8,
            "beta": 0.01,
            "temperature": 0.8,
            "max_new_tokens": 160,
            "min_p": 0.0,
            "warmup": 0.05,
            "checkpoints": 3,
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
    weights: Literal["none", "linear", "nonlinear"] = Field(
        "none",
        description="Of requests in the loss: density ratio uniform : pool of their texts in goal space, as a probe's "
        "`weighting`. A pool that was drawn by such weights has them already",
    )
    margin: float = Field(
        0.0, ge=0.0, description="Weight of the term that makes gaps in log-likelihood proportional to gaps in reward"
    )
    margin_scale: float = Field(0.5, gt=0.0, description="Reward that a nat of such a gap is worth")
    most_drift: float = Field(
        0.02, gt=0.0, description="Mean difference (nats) of sampled and trained log-probabilities that stops the run"
    )
    trl: Options = Field(
        default_factory=dict, description="Further settings of trl's `GRPOConfig`, as they are called there"
    )

    def named(self) -> tuple[tuple[str, str], ...]:
        """Its rewards."""
        return tuple(("reward", name) for name in self.rewards)

    def draws(self, requests: int) -> tuple[int, int]:
        """All completions of all steps, trained on or not, however many requests there are."""
        answers = -(-self.steps // self.inner_steps) * self.prompts_per_step * (self.drawn or self.completions)
        return answers, answers * self.max_new_tokens

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
        if self.margin and not self.beta:
            raise ValueError("`margin` is taken from the model without the adapter, and `beta: 0` leaves that out")
        if self.margin and int(self.trl.get("gradient_accumulation_steps", 1)) > 1:
            raise ValueError("`margin` needs whole groups in one pass: leave `gradient_accumulation_steps` out")
        if self.too_bad is not None and self.too_bad <= self.good_enough:
            raise ValueError("`too_bad` must be above `good_enough`")
        if own := sorted(set(self.trl) & OWN):
            raise ValueError(f"`trl` may not set {', '.join(own)}: the recipe has settings for that")
        return self


class InheritanceRecipe(TuningRecipe):
    """Active inheritance (Shimabucoro et al. 2024): supervised tuning on the best of k answers to each request.

    The model, or each of several models, writes k answers to each training request; the one of all these that has most
    of what is wanted is trained on. With `select: random` it is the control of the same cost: one of the same k, by
    chance. Ten samples are those of the published runs; they state no settings of the tuning. `embedded` is for the
    model that ships.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "embedded": {
            "samples": 8,
            "max_new_tokens": 96,
            "epochs": 4,
            "batch": 16,
            "learning_rate": 2e-3,
            "lora": {"rank": 16, "alpha": 32.0},
        }
    }

    kind: Literal["inheritance"] = "inheritance"
    samples: int = Field(10, gt=0, description="Answers that are drawn for a request: k, from each of `models`")
    models: tuple[str, ...] = Field(
        (),
        description="Models of the configuration that answers are drawn from, each on its own engine; the one that is "
        "trained may be among them. None: it alone",
    )
    objectives: tuple[Objective, ...] = Field(
        (Objective(metric="steering_error", direction="min", value=None, weight=1.0),),
        min_length=1,
        description="What is wanted of the answer that is trained on",
    )
    floors: tuple[Floor, ...] = Field((), description="What it must have besides")
    scorers: Mapping[str, Options] = Field(
        default_factory=dict, description="Scorer -> arguments of its `build`, for those that metrics name"
    )
    prompts: PromptsSet | None = Field(
        None,
        description="Prompts that are answered and trained on, as they stand, in place of the pool's requests; none of "
        "them may be asked by a profile of the bench. Null: the requests, under the method's prompt",
    )
    select: Literal["best", "random"] = Field("best", description="The best by the objectives, or one by chance")
    duplicates: float | None = Field(
        0.8, gt=0.0, le=1.0, description="Overlap of word trigrams (Jaccard) from which a text repeats one that was "
        "chosen already, and the next best is taken; null: texts may repeat"
    )  # fmt: skip

    def named(self) -> tuple[tuple[str, str], ...]:
        """Metrics of objectives and floors."""
        aims = tuple(("objective", o.metric) for o in self.objectives)
        return aims + tuple(("floor", f.metric) for f in self.floors)

    def asked(self) -> PromptsSet | None:
        """`prompts`."""
        return self.prompts

    def files(self) -> tuple[str, ...]:
        """The file of `prompts`, if they are from one."""
        return () if self.prompts is None or self.prompts.path is None else (self.prompts.path,)

    def writers(self, own: str) -> tuple[str, ...]:
        """`models`, or the model that is trained."""
        return self.models or (own,)

    def draws(self, requests: int) -> tuple[int, int]:
        """`samples` answers of each request."""
        return self.samples * requests, self.samples * requests * self.max_new_tokens

    def draws_answers(self) -> bool:
        """Whether it trains on answers that are drawn."""
        return True

    @model_validator(mode="after")
    def _can_be_run(self) -> InheritanceRecipe:
        metrics = [o.metric for o in self.objectives]
        if twice := sorted({m for m in metrics if metrics.count(m) > 1}):
            raise ValueError(f"two objectives by {', '.join(twice)}: give one")
        if twice := sorted({m for m in self.models if self.models.count(m) > 1}):
            raise ValueError(f"`models` names {', '.join(twice)} twice: each once")
        scorers = {found[0] for _, name in self.named() if (found := scorer_metric(name)) is not None}
        if unused := sorted(set(self.scorers) - scorers):
            raise ValueError(f"`scorers` has options of {', '.join(unused)}, which no objective or floor names")
        if self.prompts is not None and (odd := [name for _, name in self.named() if name in OF_REQUESTS]):
            raise ValueError(f"{odd[0]!r} is of an answer to a request, and `prompts` are none: take another metric")
        place = None if self.prompts is None else self.prompts.path
        if place is not None and not place.startswith(("/", "~")):
            raise ValueError(f"the path of `prompts`, {place!r}, is relative, and to what is not said")
        if self.draws_answers() and self.select == "best" and self.samples == 1 and len(self.models) < 2:
            raise ValueError("samples = 1 leaves nothing to choose from: draw more, or `select: random`")
        return self


#: Settings of trl's trainer that the recipe decides.
OWN = OWN_SHARED | {
    "beta", "epsilon", "epsilon_high", "loss_type", "scale_rewards", "multi_objective_aggregation", "num_iterations",
    "temperature", "min_p", "max_completion_length", "num_generations", "generation_batch_size", "steps_per_generation",
    "reward_weights",
}  # fmt: skip
