"""In which settings a bench is profiled: a request moves something, and not beyond the goal space."""

import pytest
from pydantic import ValidationError

from schemas.profile_spec import ProfiledSpec


@pytest.mark.parametrize("move", [-0.5, -0.1, 0.4, 0.5])
def test_moves_within_the_goal_space_are_taken(move):
    assert ProfiledSpec.model_validate({"asked": [{"formality": move}]}).requests(("x",)) == ({"formality": move},)


@pytest.mark.parametrize("move", [0.0, 0.51, -0.6, float("nan"), float("inf")])
def test_a_move_from_the_middle_beyond_the_goal_space_or_of_nothing_is_refused(move):
    with pytest.raises(ValidationError, match="formality: a move from the middle is within -0.5 and 0.5|finite number"):
        ProfiledSpec.model_validate({"asked": [{"formality": move}]})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"asked": [{}]}, "asks for nothing"),
        ({"asked": []}, "at least 1 item"),
        ({"strengths": [1.0, 1.0]}, "strengths"),
        ({"budget": {"profile": "facts", "most": -1.0}}, "greater than 0"),
    ],
)
def test_other_mistakes_are_said(settings, said):
    with pytest.raises(ValidationError, match=said):
        ProfiledSpec.model_validate(settings)


def test_by_default_the_first_goal_is_asked_up():
    assert ProfiledSpec.model_validate({}).requests(("formality", "text_length")) == ({"formality": 0.4},)
