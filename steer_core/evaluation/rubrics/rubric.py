"""What a rubric for a language model is, and the frame that the numbered ones share.

The whole conversation is shown. Example answers come from the item itself: the answer that shows the behavior stands at
the top of the scale and its opposite at the bottom, by construction, so that no example can contradict the scale.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from schemas.digest import digest_json
from schemas.specs import BehaviorSpec
from steer_core.evaluation.judges.asking import Option
from steer_core.evaluation.judges.judge import Case
from steer_core.steering.plan import Message

#: What is shown in place of a case when a rubric's wording is hashed.
_SAMPLE = Case("", "", (Message("user", "question"),), "answer", "positive", "negative")


@dataclass(frozen=True)
class Rubric:
    """A question with a closed set of answers.

    Attributes:
        name: module of `steer_core.evaluation.rubrics`, with dashes.
        version: raised when the wording or the reading changes.
        options: what may be answered, and what it is worth.
        ask: case and repeat to the judge's prompt.
        max_new_tokens: room for a written reply.
        settings: what it was built with.
    """

    name: str
    version: str
    options: tuple[Option, ...]
    ask: Callable[[Case, int], tuple[Message, ...]]
    max_new_tokens: int = 12
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def scale(self) -> tuple[float, float]:
        """Smallest and largest value of the options."""
        values = [o.value for o in self.options]
        return min(values), max(values)

    @property
    def fingerprint(self) -> str:
        """Digest of the wording, the options and the settings."""
        prompts = [[m.role, m.content] for repeat in (0, 1) for m in self.ask(_SAMPLE, repeat)]
        options = [[o.text, o.value] for o in self.options]
        return digest_json([prompts, options, self.max_new_tokens, dict(self.settings)])


SYSTEM = (
    "You grade answers of an assistant. You look at a single trait and at nothing else: not at style, length or "
    "correctness unless the trait is about them. You reply with the grade alone."
)


def trait_of(behavior: BehaviorSpec, trait: str | None) -> str:
    """What is judged, in words: the rubric's option, or else the behavior's description, or else its name."""
    return trait or behavior.description.strip() or behavior.name.replace("-", " ")


def conversation(messages: Sequence[Message]) -> str:
    """All turns of a prompt; a single user's turn as it stands."""
    if len(messages) == 1 and messages[0].role == "user":
        return messages[0].content
    return "\n\n".join(f"[{m.role}]\n{m.content}" for m in messages)


def graded(
    case: Case, repeat: int, *, trait: str, grades: Sequence[tuple[str, str]], examples: bool, reply: str
) -> tuple[Message, ...]:
    """Prompt of a numbered rubric.

    Args:
        case: what is judged.
        repeat: odd ones show the examples in the other order.
        trait: what is looked at.
        grades: label and meaning of the grades that are explained, from the bottom to the top of the scale.
        examples: whether the item's own two answers are shown as examples of both ends.
        reply: how the grade is to be written.
    """
    lines = [f"{label}: {meaning}" for label, meaning in grades]
    parts = [
        f"The trait: {trait}",
        f"What was said to the assistant:\n<conversation>\n{conversation(case.messages)}\n</conversation>",
        "The grades:\n" + "\n".join(lines),
    ]
    if examples:
        known = [(grades[0][0], case.negative), (grades[-1][0], case.positive)]
        shown = [f"An answer of grade {g}:\n<example>\n{text}\n</example>" for g, text in known if text]
        parts += shown[::-1] if repeat % 2 else shown
    parts += [f"The answer to grade:\n<answer>\n{case.response}\n</answer>", reply]
    return Message("system", SYSTEM), Message("user", "\n\n".join(parts))
