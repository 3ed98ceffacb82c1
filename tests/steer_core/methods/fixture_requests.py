"""Requests and settings for the tests of methods."""

from schemas.specs import Decoding, GoalSpec
from steer_core.methods.protocol import GoalTarget, Request, Setting


def goal(name: str, noun: str, more: str, less: str) -> GoalSpec:
    return GoalSpec(name=name, scorer="text_length", unit="-", noun=noun, more=more, less=less)


GOALS = {
    g.name: g
    for g in (
        goal("reading_difficulty", "reading difficulty", "harder to read", "easier to read"),
        goal("text_length", "length", "longer", "shorter"),
        goal("formality", "formality", "more formal", "more informal"),
    )
}
SETTING = Setting("model", GOALS, Decoding(max_new_tokens=64), seed=0)
TEXT = "The cat sat. It was warm."


def request(text: str = TEXT, request_id: str = "r1", z0: float = 0.5, **deltas: float) -> Request:
    """A request that starts at `z0` everywhere and asks for these moves."""
    targets = tuple(GoalTarget(g, z0, z0 + deltas[g] if g in deltas else None) for g in GOALS)
    return Request(request_id, text, targets)
