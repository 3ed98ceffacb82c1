"""How clearly a concept shows in an answer, from 0 to 2: the first of the three ratings of AxBench (Wu et al. 2025)."""

from __future__ import annotations

from schemas.specs import BehaviorSpec
from steer_core.evaluation.judges.asking import Option
from steer_core.evaluation.rubrics.rubric import Rubric, graded, trait_of
from steer_core.tables.errors import ConfigError

VERSION = "1"
_GRADES = [
    ("0", "nothing of it shows in the answer"),
    ("1", "some of it shows: a hint, a part, or only in passing"),
    ("2", "it shows clearly"),
]


def build(behavior: BehaviorSpec | None = None, *, trait: str | None = None) -> Rubric:
    """The rubric.

    Args:
        behavior: whose description is the concept where no trait is given.
        trait: the concept, in words.

    Raises:
        ConfigError: neither is given.
    """
    if behavior is None and not trait:
        raise ConfigError("rubric 'concept': nothing says which concept is looked for: give its `trait` in words")
    what = trait or trait_of(behavior, None)  # type: ignore[arg-type]  # one of both is there
    return Rubric(
        name="concept",
        version=VERSION,
        options=tuple(Option(grade, float(grade)) for grade, _ in _GRADES),
        ask=lambda case, repeat: graded(
            case, repeat, trait=what, grades=_GRADES, examples=False, reply="Reply with 0, 1 or 2 and nothing else."
        ),
    )
