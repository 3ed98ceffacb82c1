"""The ruler: outcomes to scores, summaries with clustered intervals, contrasts with controls, and the ranking."""

from steer_core.evaluation.comparison import compare
from steer_core.evaluation.controls import closed_form_of_copy
from steer_core.evaluation.ranking import for_the_board, leaderboard
from steer_core.evaluation.scoring import evaluate
from steer_core.evaluation.side_effect_matrix import side_effects
from steer_core.evaluation.summary import summarise

#: Bumped when the same responses give other scores.
VERSION = "3"

__all__ = [
    "VERSION",
    "closed_form_of_copy",
    "compare",
    "evaluate",
    "for_the_board",
    "leaderboard",
    "side_effects",
    "summarise",
]
