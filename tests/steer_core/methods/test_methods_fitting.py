"""Edit ideas are fitted from what a model said it would change."""

from fixture_requests import GOALS, SETTING, request

from steer_core.methods.parts.prompt import build_strategy
from steer_core.methods.prompts.edit_ideas import draw_ideas, parse_edits
from steer_core.methods.protocol import Artifact, FitResponse

RAW = "<think>Edits:\n- no\nRewritten text: no</think>Edits:\n- Use full sentences.\n2. Drop the slang.\n\nRewritten text:\nx"


def test_edits_are_read_from_their_heading():
    assert parse_edits(RAW) == ["Use full sentences.", "Drop the slang."]
    assert parse_edits("- a list without headings") == []
    assert parse_edits(f"Edits:\n- {'long ' * 100}\n- short\nRewritten text:\nx") == ["short"]


def test_ideas_belong_to_goal_and_direction_and_count():
    responses = tuple(FitResponse(request(formality=0.3), "x", RAW) for _ in range(3))
    responses += (FitResponse(request(formality=-0.3), "x", "Edits:\n- Add slang.\nRewritten text:\nx"),)
    artifact = build_strategy("instruction", SETTING, {}).fit(responses)
    assert [(i.goal, i.direction, i.body["idea"], i.body["count"]) for i in artifact.items] == [
        ("formality", -1, "Add slang.", 1),
        ("formality", 1, "Drop the slang.", 3),
        ("formality", 1, "Use full sentences.", 3),
    ]
    assert Artifact.from_table(artifact.to_table()) == artifact


def test_ideas_are_drawn_for_what_is_asked_and_the_same_each_time():
    responses = (FitResponse(request(formality=0.3), "x", RAW),)
    artifact = build_strategy("instruction", SETTING, {}).fit(responses)
    asked = request(formality=0.2)
    assert set(draw_ideas(asked, artifact, 5, seed=0)) == {"Use full sentences.", "Drop the slang."}
    assert draw_ideas(asked, artifact, 1, seed=0) == draw_ideas(asked, artifact, 1, seed=0)
    assert draw_ideas(request(formality=-0.2), artifact, 5, seed=0) == []
    assert list(GOALS)
