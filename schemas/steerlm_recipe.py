"""The SteerLM recipe: what is drawn, who labels it, how the model learns to write as labels ask."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from schemas.parts import PromptPart
from schemas.steerlm import AttributeModelSpec
from schemas.tuning import TuningRecipe


class SteerlmRecipe(TuningRecipe):
    """SteerLM (Dong et al. 2023) and SteerLM 2.0 (Wang et al. 2024) on the goal space: goals are the attributes.

    Phases, each a training run of its own that goes on from the state before it:

    1. answers are drawn or given, labelled with what they are, and trained on under a prompt that asks for these;
    2. `rounds` times: answers are drawn as labels ask, labelled anew, and trained on likewise (bootstrapping);
    3. `iterations` times: answers are drawn as labels ask, and trained on with the weights of SteerLM 2.0.

    Defaults are published ones where there are some: ten levels, one round, batches of 128, ten answers an iteration,
    two epochs over them, precision 24. `embedded` is for the model that ships.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "embedded": {
            "levels": 6,
            "wording": "words",
            "samples": 1,
            "max_new_tokens": 192,
            "epochs": 1,
            "batch": 8,
            "learning_rate": 5e-3,
            "betas": (0.9, 0.98),
            "warmup": 0.02,
            "dropout": 0.1,
            "round_share": 0.2,
            "round_samples": 1,
            "round_rate": 2e-3,
            "keep_earlier": False,
            "iteration_share": 0.04,
            "answers": 4,
            "prompts_per_step": 8,
            "iteration_epochs": 1,
            "iteration_rate": 5e-4,
            "lora": {"rank": 32, "alpha": 64.0},
        }
    }

    kind: Literal["steerlm"] = "steerlm"
    levels: int = Field(
        10, ge=2, le=100, description="Levels of each goal, 0 the lowest; as many as the prompt strategy says"
    )
    wording: Literal["digits", "words"] = Field(
        "digits", description="How labels are written, as the prompt strategy says; `words` has six levels"
    )
    draw_under: str | None = Field(
        "direct", description="Strategy whose prompts the first answers are drawn under; null: the method's own"
    )
    demonstrations: str | None = Field(
        None,
        description="JSON lines with `source` and `answer`, whole path: texts that people or other models wrote, from "
        "which the first phase learns instead of drawing",
    )
    samples: int = Field(4, gt=0, description="First answers that are drawn for a request")
    annotator: Literal["ruler", "attribute_model"] = Field(
        "ruler", description="Who labels answers: the ruler itself, or a model that is trained on labels of the ruler"
    )
    attribute_model: AttributeModelSpec = Field(default_factory=lambda: AttributeModelSpec.model_validate({}))
    rated: float = Field(
        0.5, gt=0.0, le=1.0, description="Share of the texts whose first answers the ruler labels for `attribute_model`"
    )
    held_aside: float = Field(
        0.2,
        gt=0.0,
        lt=1.0,
        description="Share of the rated texts that nothing is learnt from: calibration",
    )
    dropout: float = Field(
        0.2, ge=0.0, le=1.0, description="Probability that a label is left out of a prompt, anew in every epoch"
    )
    unasked: float = Field(
        0.1,
        ge=0.0,
        lt=1.0,
        description="Probability that all labels are left out, so that it writes unasked: P(y | x)",
    )
    batch: int = Field(128, gt=0, description="Answers of an optimiser step")
    rounds: int = Field(1, ge=0, description="Rounds of bootstrapping")
    round_share: float = Field(
        1.0, gt=0.0, le=1.0, description="Share of the training requests that a round draws for, others in every round"
    )
    round_rate: float = Field(2e-4, gt=0.0, description="Peak of the learning rate in a round")
    round_samples: int = Field(4, gt=0, description="Answers that a round draws for a request, each for other labels")
    round_epochs: int = Field(1, gt=0, description="Times that a round trains on each answer")
    ask: Literal["seen", "independent", "requested"] = Field(
        "seen",
        description="Labels that rounds and iterations ask for: those of an answer that was drawn before, each goal's "
        "level by itself, or what the training request asks",
    )
    quality: str | None = Field(
        None,
        description="Goal of which only the highest level seen is asked for, as in the paper; null: all are",
    )
    keep_earlier: bool = Field(True, description="Whether a round also trains on the answers of the phases before it")
    iterations: int = Field(0, ge=0, description="Iterations of SteerLM 2.0")
    iteration_share: float = Field(
        1.0, gt=0.0, le=1.0, description="Share of the training requests that an iteration draws for"
    )
    answers: int = Field(10, gt=1, description="Answers that an iteration draws for a request, all for the same labels")
    prompts_per_step: int = Field(128, gt=0, description="Requests of an optimiser step of an iteration")
    iteration_epochs: int = Field(2, gt=0, description="Times that an iteration trains on each answer")
    iteration_rate: float = Field(2e-5, gt=0.0, description="Peak of the learning rate in an iteration")
    precision: float = Field(
        24.0,
        gt=0.0,
        description="Of P(labels | answer): alpha + beta of the Beta around what was measured",
    )
    most_weight: float | None = Field(
        None, gt=0.0, le=1.0, description="The largest weight that one of a request's answers may have; null: as it is"
    )
    checkpoints: int = Field(1, gt=0, description="States that are kept of each phase, the last one included")

    @property
    def phases(self) -> tuple[str, ...]:
        """What is trained, one after another."""
        rounds = tuple(f"round {k + 1}" for k in range(self.rounds))
        return ("conditioned", *rounds, *(f"iteration {k + 1}" for k in range(self.iterations)))

    def named(self) -> tuple[tuple[str, str], ...]:
        """The goal of quality."""
        return () if self.quality is None else (("quality", f"goal:{self.quality}"),)

    def under(self, prompt: PromptPart | None) -> Iterator[str]:
        """The strategy asks by labels, and by those that answers are learnt under: training sees no others."""
        own = (
            f"recipe 'steerlm' trains under the prompt strategy `labels` with levels = {self.levels} in {self.wording}"
        )
        if prompt is None or prompt.strategy != "labels":
            has = "none" if prompt is None else f"`{prompt.strategy}`"
            yield f"{own}, and the method's is {has}: give it this strategy"
            return
        wording = prompt.options.get("wording", "digits")
        levels = prompt.options.get("levels")
        levels = {"words": 6}.get(str(wording), 10) if levels is None else levels
        if (levels, wording) != (self.levels, self.wording):
            yield (
                f"{own}, and the method's strategy has levels = {levels} in {wording}: give both the same levels and "
                "`wording`"
            )

    def also_under(self) -> tuple[str, ...]:
        """The strategy of the first answers."""
        return () if self.draw_under is None or self.demonstrations is not None else (self.draw_under,)

    def draws(self, requests: int) -> tuple[int, int]:
        """First answers, where none are given, and those of all rounds and iterations."""
        first = 0 if self.demonstrations is not None else self.samples * requests
        rounds = self.rounds * self.round_samples * max(1, round(self.round_share * requests))
        iterations = self.iterations * self.answers * max(1, round(self.iteration_share * requests))
        answers = first + rounds + iterations
        return answers, answers * self.max_new_tokens

    def files(self) -> tuple[str, ...]:
        """The demonstrations."""
        return () if self.demonstrations is None else (self.demonstrations,)

    def states(self) -> int:
        """At most so many: some of each phase."""
        return self.checkpoints * len(self.phases)

    @model_validator(mode="after")
    def _can_be_weighted(self) -> SteerlmRecipe:
        if self.most_weight is not None and not self.most_weight * self.answers > 1.0:
            raise ValueError(
                f"most_weight = {self.most_weight} of answers = {self.answers}: above {1.0 / self.answers:g}, or the "
                "weights cannot sum to 1"
            )
        if self.demonstrations is not None and not self.demonstrations.startswith(("/", "~")):
            raise ValueError(
                f"demonstrations {self.demonstrations!r} is relative, and to what is not said: write the whole path"
            )
        if self.wording == "words" and self.levels != 6:
            raise ValueError(f"`wording: words` has six levels, and levels = {self.levels}")
        if self.iterations and not self.unasked:
            raise ValueError("iterations take P(y | x) from the model asked for nothing: `unasked` is to be above 0")
        if self.ask == "requested" and self.quality is not None:
            raise ValueError("`ask: requested` asks what requests say, and `quality` would change it: leave one out")
        return self
