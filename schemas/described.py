"""Behaviors from a sentence: what is asked, what was answered under opposite instructions, and what filters it."""

from __future__ import annotations

from schemas.contract import Contract, column
from schemas.contrasts import SPLITS

_BEHAVIOR = "Behavior"
_SIDE = "1: shows the trait; 0: shows its opposite"


class TraitPrompts(Contract, table="trait_prompts", key=("behavior", "prompt_id")):
    """Opposite instructions for a trait, and questions that are answered under both: a table to read and edit."""

    behavior: str = column(description=_BEHAVIOR)
    prompt_id: str = column(description="Hash of behavior, role, side and text")
    role: str = column(isin=["instruction", "question"], description="A system prompt, or a user's turn")
    side: int = column(nullable=True, isin=[0, 1], description=f"Of an instruction: {_SIDE}; null for a question")
    pair: int = column(nullable=True, ge=0, description="Of an instruction: which pair; null for a question")
    split: str = column(nullable=True, isin=SPLITS, description="Of a question: what it may be used for")
    text: str = column(min_length=1, description="The words")
    source: str = column(description="`template`, `author` (a model), `set` (items that ship or a file), or the file")


class TraitAnswers(Contract, table="trait_answers", key=("behavior", "answer_id")):
    """Answers under opposite instructions, with what the filter says of each: all are kept as rows."""

    behavior: str = column(description=_BEHAVIOR)
    answer_id: str = column(description="Hash of question, instruction and sample")
    question_id: str = column(description="Question, in `trait_prompts`")
    question: str = column(min_length=1, description="Its words")
    split: str = column(isin=SPLITS, description="What the question may be used for")
    pair: int = column(ge=0, description="Which pair of instructions")
    side: int = column(isin=[0, 1], description=_SIDE)
    instruction: str = column(min_length=1, description="What stood in front")
    sample_index: int = column(ge=0, description="Index among the samples")
    response_id: str = column(description="Response, in the journal of the model that wrote it")
    text: str = column(description="What was written, cleaned")
    failure: str = column(
        nullable=True,
        isin=["empty", "overlong", "filtered", "refusal"],
        description="Why it is no answer; null where it is one; a cut answer is one",
    )
    value: float = column(nullable=True, description="What the filter gives it: above 0 is the side of the trait")
    kept: bool = column(description="Whether it is on the side that it was asked for, as its partner is")


class TraitFilters(Contract, table="trait_filters", key=("behavior", "filter")):
    """Who can tell the two sides of a behavior apart, on its own answers, and who filters."""

    behavior: str = column(description=_BEHAVIOR)
    filter: str = column(
        isin=["judge", "instructions"],
        description="`judge`: the behavior's; `instructions`: how much likelier an answer is under one than under the "
        "other",
    )
    used: bool = column(description="Whether answers are kept by it")
    auroc: float = column(
        nullable=True,
        ge=0.0,
        le=1.0,
        description="Chance that it puts an answer that was asked for the trait above one that was asked for its "
        "opposite; null: it says nothing of one side",
    )
    low: float = column(
        nullable=True, description="Lower end of its 95 % interval, clustered by question; .5 is chance"
    )
    high: float = column(nullable=True, description="Upper end")
    unparsed: float = column(ge=0.0, le=1.0, description="Share of answers of which it says nothing")
    n: int = column(ge=0, description="Answers of which it says something")
    note: str = column(description="What to know of it; may be empty")
