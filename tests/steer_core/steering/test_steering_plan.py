"""A plan is its content: equal content, equal id; it can be stored and read back."""

import pytest

from schemas.specs import Decoding
from steer_core.steering import Message, Plan

PLANS = [
    Plan("m", Decoding(), messages=(Message("user", "héllo\n\u202e"), Message("assistant", "x"), Message("user", "y"))),
    Plan("m", Decoding(temperature=0.7, top_p=0.9), text="plain"),
    Plan("m", Decoding(max_new_tokens=3), tokens=(1, 2, 3)),
]


@pytest.mark.parametrize("plan", PLANS)
def test_a_plan_survives_json(plan):
    assert Plan.from_json(plan.to_json()) == plan
    assert Plan.from_json(plan.to_json()).id == plan.id


def test_anything_that_changes_the_answer_changes_the_id():
    base = Plan("m", Decoding(), text="x")
    others = [
        Plan("n", Decoding(), text="x"),
        Plan("m", Decoding(temperature=1.0), text="x"),
        Plan("m", Decoding(), text="y"),
    ]
    assert len({base.id, *(p.id for p in others)}) == 4


@pytest.mark.parametrize("given", [{}, {"text": "x", "tokens": (1,)}])
def test_exactly_one_prompt_is_given(given):
    with pytest.raises(ValueError, match="exactly one of messages, text and tokens"):
        Plan("m", Decoding(), **given)
