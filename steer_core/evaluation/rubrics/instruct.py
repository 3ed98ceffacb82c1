"""Whether an answer does what it was asked for, from 0 to 2: the second of the three ratings of AxBench."""

from __future__ import annotations

from schemas.specs import BehaviorSpec
from steer_core.evaluation.judges.asking import Option
from steer_core.evaluation.rubrics.rubric import Rubric, graded

VERSION = "1"
_TRAIT = (
    "how well the answer fits what the assistant was asked for. Style, mood, and whether it is right are no part of it."
)
_GRADES = [
    ("0", "the answer is about something else, or about nothing"),
    ("1", "the answer is about what was asked, and does only part of it or strays"),
    ("2", "the answer does what was asked"),
]


def build(behavior: BehaviorSpec | None = None) -> Rubric:
    """The rubric; it asks the same whatever the behavior is.

    Args:
        behavior: not looked at.
    """
    return Rubric(
        name="instruct",
        version=VERSION,
        options=tuple(Option(grade, float(grade)) for grade, _ in _GRADES),
        ask=lambda case, repeat: graded(
            case, repeat, trait=_TRAIT, grades=_GRADES, examples=False, reply="Reply with 0, 1 or 2 and nothing else."
        ),
    )
