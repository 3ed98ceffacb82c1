"""Whether an answer stays with what it was asked: the same text in a rewrite, the topic of an open question."""

from __future__ import annotations

from schemas.specs import BehaviorSpec
from steer_core.evaluation.judges.asking import Option
from steer_core.evaluation.judges.judge import Case
from steer_core.evaluation.rubrics.rubric import Rubric, conversation
from steer_core.steering.plan import Message

VERSION = "1"
_SYSTEM = (
    "You check whether an answer of an assistant stays with its task. Tone, style, opinion and quality do not matter. "
    "You reply with one word."
)
_QUESTION = (
    "Is the answer about what the conversation asks for? If a text was to be rewritten, an answer that tells the same "
    "events or facts in other words stays with it; one that tells of other things does not. Words without sense do not."
)


def build(behavior: BehaviorSpec | None = None) -> Rubric:
    """The rubric; it asks the same whatever the behavior is.

    Args:
        behavior: not looked at.
    """

    def ask(case: Case, repeat: int) -> tuple[Message, ...]:
        task = f"<conversation>\n{conversation(case.messages)}\n</conversation>"
        answer = f"<answer>\n{case.response}\n</answer>"
        both = [answer, task] if repeat % 2 else [task, answer]
        return Message("system", _SYSTEM), Message("user", "\n\n".join([*both, _QUESTION, "Reply with Yes or No."]))

    return Rubric("grounded", VERSION, (Option("Yes", 1.0), Option("No", 0.0)), ask)
