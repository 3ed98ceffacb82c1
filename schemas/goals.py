"""Goal values and goal spaces."""

from __future__ import annotations

from schemas.contract import Contract, column

#: `ok`: measured; `undefined`: the measure does not exist for this text (empty, too short); never a made-up number.
STATES = ["ok", "undefined"]


class GoalValues(Contract, table="goal_values", key=("text_id", "scorer_id")):
    """Raw measurements `text -> float`, long: a new goal changes no schema. Bounds are kept elsewhere."""

    text_id: str = column(description="Content hash of the text")
    scorer_id: str = column(description="Scorer and version, e.g. `text_length@1`")
    value: float = column(nullable=True, description="Raw value in the scorer's own unit; null when undefined")
    state: str = column(isin=STATES, description="`ok`, or `undefined` for this text")


class GoalSpaceTable(Contract, table="goal_space", key=("goal",)):
    """An ordered set of goals with bounds; its id is a hash of goals, scorer versions and bounds."""

    goal_space_id: str = column(description="Hash of goals, scorer versions and bounds")
    position: int = column(ge=0, unique=True, description="Axis of the goal in z, 0-based")
    goal: str = column(unique=True, description="Goal name")
    scorer_id: str = column(description="Scorer and version")
    lower: float = column(description="Raw value that maps to z = 0")
    upper: float = column(description="Raw value that maps to z = 1; above `lower`")
    bounds: str = column(isin=["percentile", "fixed"], description="How the bounds were chosen")
    n_texts: int = column(ge=0, description="Texts with a defined value that the bounds were taken from")
