"""Whether an answer reads as a text, from 0 to 2: the third rating of AxBench. The prompt is not shown."""

from __future__ import annotations

from schemas.specs import BehaviorSpec
from steer_core.evaluation.judges.asking import Option
from steer_core.evaluation.judges.judge import Case
from steer_core.evaluation.rubrics.rubric import SYSTEM, Rubric
from steer_core.steering.plan import Message

VERSION = "1"
_QUESTION = (
    "The trait: how well the text reads. What it says, and whether it is true or kind, is no part of it.\n\n"
    "The grades:\n"
    "0: words without order, endless repetition, or signs that make no text\n"
    "1: it can be understood, and has clear faults: broken sentences, repetition, stray words\n"
    "2: whole sentences that follow each other as a person would write them; an end that is cut off is no fault"
)


def build(behavior: BehaviorSpec | None = None) -> Rubric:
    """The rubric; it asks the same whatever the behavior is.

    Args:
        behavior: not looked at.
    """

    def ask(case: Case, repeat: int) -> tuple[Message, ...]:
        text = f"The text to grade:\n<text>\n{case.response}\n</text>"
        parts = [_QUESTION, text, "Reply with 0, 1 or 2 and nothing else."]
        return Message("system", SYSTEM), Message("user", "\n\n".join(parts))

    return Rubric("fluency", VERSION, tuple(Option(str(n), float(n)) for n in range(3)), ask)
