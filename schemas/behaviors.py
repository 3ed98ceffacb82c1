"""Behaviors: traits with contrast pairs, from data of four kinds or from a sentence, and who judges them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from schemas.profile_sets import PromptsSet
from schemas.spec import Options, Slug, Spec


class GrammarBehavior(Spec):
    """A behavior of the embedded model's grammar: an attribute at one level against another; ground truth is known."""

    kind: Literal["grammar"] = "grammar"
    attribute: Literal["sentiment", "formality", "difficulty", "sentences"]
    positive: int = Field(description="Level that shows the behavior")
    negative: int = Field(description="Level that does not")
    n_pairs: int = Field(256, gt=1, description="Training pairs")
    n_validation: int = Field(64, gt=0, description="Pairs that checkpoints are chosen on")
    n_items: int = Field(48, gt=0, description="Test items of each form")
    seed: int = Field(0, ge=0, description="Seed of whatever is drawn")


class CaaBehavior(Spec):
    """A behavior in the JSON format of Contrastive Activation Addition (Rimsky et al. 2024)."""

    kind: Literal["caa"] = "caa"
    dataset: Literal["prompts", "ab", "open", "openr", "opencon", "abcon", "caa"] = "ab"
    train: str = Field(description="File of contrast rows: JSON list, or CSV for prompts, caa, opencon and abcon")
    test_ab: str | None = Field(None, description="JSON list of A/B test items")
    test_open: str | None = Field(None, description="JSON list of open-ended test items")
    balance_letters: bool = Field(True, description="Swap the options of half the items so that letters are even")
    seed: int = Field(0, ge=0, description="Seed of whatever is drawn")


class BipoBehavior(Spec):
    """A behavior in the CSV format of BiPO (Cao et al. 2024): question, matching, not_matching."""

    kind: Literal["bipo"] = "bipo"
    train: str = Field(description="CSV of preference pairs")
    test: str | None = Field(None, description="CSV of test items with options A, B and the matching letter")
    validation_share: float = Field(
        0.1, gt=0.0, lt=1.0, description="Share of train.csv that checkpoints are chosen on"
    )
    seed: int = Field(0, ge=0, description="Seed of whatever is drawn")


class PairsBehavior(Spec):
    """A behavior from a JSONL, CSV or Parquet file with columns prompt, positive, negative (and optionally split)."""

    kind: Literal["pairs"] = "pairs"
    path: str = Field(description="File of pairs")
    test: str | None = Field(None, description="File of test prompts (column `prompt`, optionally positive, negative)")
    seed: int = Field(0, ge=0, description="Seed of whatever is drawn")


class DescribedBehavior(Spec):
    """A behavior from a name and a sentence: a model writes answers under opposite instructions, and they are filtered.

    Persona vectors (Chen et al. 2025), with templates where no strong model writes instructions and questions.
    """

    kind: Literal["described"] = "described"
    trait: str = Field(min_length=1, description="The trait as a quality: `cheerful`, `flattering and servile`")
    sentence: str = Field(min_length=1, description="What one does who has it: `Answers gladly, whatever is asked.`")
    opposite: str | None = Field(None, min_length=1, description="The opposite quality; null: not at all that")
    opposite_sentence: str | None = Field(None, min_length=1, description="What one does who is the opposite")
    author: Slug | None = Field(
        None, description="Model that writes instructions and questions; null: templates, and `questions`"
    )
    writer: Slug | None = Field(
        None, description="Model that answers under both instructions; null: the bench's, where it has one"
    )
    prompts: str | None = Field(
        None,
        min_length=1,
        description="File of instructions and questions, as exported and edited; null: they are made",
    )
    questions: PromptsSet = Field(
        default_factory=lambda: PromptsSet.model_validate({}), description="What is asked, where no author asks"
    )
    n_instructions: int = Field(3, gt=0, le=10, description="Pairs of opposite instructions, at most")
    n_train: int = Field(24, gt=1, description="Questions that pairs are fitted on")
    n_test: int = Field(12, gt=1, description="Questions that the behavior is tested with, others than those")
    samples: int = Field(1, gt=0, description="Answers to each question under each instruction")
    validation_share: float = Field(
        0.1, ge=0.0, lt=1.0, description="Share of the fitted questions that checkpoints are chosen on"
    )
    max_new_tokens: int = Field(64, gt=0, description="Length of an answer")
    temperature: float = Field(1.0, gt=0.0, description="Of the answers")
    seed: int = Field(0, ge=0, description="Seed of whatever is drawn")

    @field_validator("trait", "sentence", "opposite", "opposite_sentence")
    @classmethod
    def _says_something(cls, text: str | None) -> str | None:
        if text is not None and not any(c.isalpha() for c in text):
            raise ValueError(f"{text!r} says nothing: give it in words")
        return text

    @model_validator(mode="after")
    def _does_not_contradict_itself(self) -> DescribedBehavior:
        for one, other, names in (
            (self.trait, self.opposite, "trait and opposite"),
            (self.sentence, self.opposite_sentence, "sentence and opposite_sentence"),
        ):
            if other is not None and _words(one) == _words(other):
                raise ValueError(f"{names} say the same ({one!r}): there is nothing to tell apart")
        return self


def instruction(quality: str) -> str:
    """The plainest instruction for a quality: a cheerful person, an odd one."""
    article = "an" if quality.strip()[:1].lower() in "aeiou" else "a"
    return f"You are {article} {quality.strip()} person."


def not_at_all(trait: str) -> str:
    """The opposite of a trait that nobody named."""
    return f"not at all {trait.strip()}"


def _words(text: str) -> list[str]:
    return "".join(c if c.isalnum() else " " for c in text.lower()).split()


BehaviorSource = Annotated[
    GrammarBehavior | CaaBehavior | BipoBehavior | PairsBehavior | DescribedBehavior, Field(discriminator="kind")
]


class JudgeSpec(Spec):
    """Who judges open answers: the grammar's own reader, or a language model with a rubric."""

    kind: Literal["ground_truth", "llm"] = "ground_truth"
    rubric: Slug = Field("attribute", description="Module of `steer_core.evaluation.rubrics`")
    options: Options = Field(default_factory=dict, description="Arguments of the rubric")
    model: Slug | None = Field(None, description="Judge model; null: the cell's own model")
    repeats: int = Field(1, gt=0, description="Judgements of each response")


class BehaviorSpec(Spec):
    """A trait defined by contrast pairs, and how its test answers are judged."""

    name: Slug = Field(description="Concept name")
    source: BehaviorSource
    judge: JudgeSpec = JudgeSpec.model_construct(
        kind="ground_truth", rubric="attribute", options={}, model=None, repeats=1
    )
    positive_prompt: str | None = Field(None, description="System prompt that asks for the behavior in words")
    negative_prompt: str | None = Field(None, description="System prompt that asks for the opposite")
    scale: tuple[float, float] = Field((0.0, 10.0), description="Ends of the judge's scale")
    description: str = ""

    @model_validator(mode="before")
    @classmethod
    def _a_sentence_describes(cls, given: Any) -> Any:
        """Of a described behavior: the sentence is its description, and its first instructions are its prompts."""
        source = given.get("source") if isinstance(given, Mapping) else None
        if isinstance(source, DescribedBehavior):
            source = source.model_dump()
        if not isinstance(source, Mapping) or source.get("kind") != "described":
            return given
        own = {"description": source.get("sentence")}
        if isinstance(trait := source.get("trait"), str):
            own["positive_prompt"] = instruction(trait)
            own["negative_prompt"] = instruction(source.get("opposite") or not_at_all(trait))
        return {**{k: v for k, v in own.items() if isinstance(v, str)}, **given}

    @field_validator("scale")
    @classmethod
    def _a_scale_rises(cls, scale: tuple[float, float]) -> tuple[float, float]:
        if not scale[0] < scale[1]:
            raise ValueError(f"a scale goes from its lower to its upper end, not from {scale[0]:g} to {scale[1]:g}")
        return scale
