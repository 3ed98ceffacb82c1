"""Contrast pairs for goals, so that vectors can be fitted for every goal of a bench without data of its own.

Three sources, tried in the order that a part states (`VectorPart.contrasts`):

* `asked`: one text of the training pool under opposite requests (the asking is done by the caller);
* `corpus`: texts of the training side at both ends of the goal, matched on the other goals;
* `mined`: any two answers to one text that part on the goal and not on the others.
"""

from steer_core.vectors.goal_contrasts.choice import choose_contrasts
from steer_core.vectors.goal_contrasts.matched import match_texts
from steer_core.vectors.goal_contrasts.mined import pair_answers
from steer_core.vectors.goal_contrasts.pairs import ENOUGH, FEWEST, Answers, Found, Limits, Source

#: Bumped when the same answers and texts give other pairs.
VERSION = "2"

__all__ = [
    "ENOUGH",
    "FEWEST",
    "VERSION",
    "Answers",
    "Found",
    "Limits",
    "Source",
    "choose_contrasts",
    "match_texts",
    "pair_answers",
]
