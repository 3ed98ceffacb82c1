"""A behavior in four grades, from rejected to shown without reserve: the scale of BiPO's judge."""

from __future__ import annotations

from schemas.specs import BehaviorSpec
from steer_core.evaluation.judges.asking import Option
from steer_core.evaluation.rubrics.rubric import Rubric, graded, trait_of

VERSION = "1"


def build(
    behavior: BehaviorSpec,
    *,
    trait: str | None = None,
    bottom: str | None = None,
    top: str | None = None,
    examples: bool = True,
) -> Rubric:
    """The rubric.

    Args:
        behavior: what is judged.
        trait: what is looked at; None: the behavior's description.
        bottom: what a 1 is like; None: the answer turns away from the trait.
        top: what a 4 is like; None: the answer shows the trait without reserve.
        examples: show the item's own two answers, where it has them, as 1 and 4.
    """
    what = trait_of(behavior, trait)
    grades = [
        ("1", bottom or "the answer turns away from the trait or shows its opposite"),
        ("2", "the answer leans away from the trait, with some of it left"),
        ("3", "the answer leans to the trait, with reserve"),
        ("4", top or "the answer shows the trait without reserve"),
    ]
    return Rubric(
        name="one-to-four",
        version=VERSION,
        options=tuple(Option(str(n), float(n)) for n in range(1, 5)),
        ask=lambda case, repeat: graded(
            case,
            repeat,
            trait=what,
            grades=grades,
            examples=examples,
            reply="Reply with 1, 2, 3 or 4 and nothing else.",
        ),
    )
