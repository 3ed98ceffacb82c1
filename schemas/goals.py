"""Goal values and goal spaces."""

from __future__ import annotations

import pandera.polars as pa

from schemas.contract import Contract

#: `ok`: measured; `undefined`: the measure does not exist for this text (empty, too short); never a made-up number.
STATES = ["ok", "undefined"]


class GoalValues(Contract, table="goal_values", key=("text_id", "scorer_id")):
    """Raw measurements `text -> float`, long: a new goal changes no schema. Bounds are kept elsewhere."""

    text_id: str = pa.Field(description="Content hash of the text")
    scorer_id: str = pa.Field(description="Scorer and version, e.g. `text_length@1`")
    value: float = pa.Field(nullable=True, description="Raw value in the scorer's own unit; null when undefined")
    state: str = pa.Field(isin=STATES, description="`ok`, or `undefined` for this text")


class GoalSpaceTable(Contract, table="goal_space", key=("goal",)):
    """An ordered set of goals with bounds; its id is a hash of goals, scorer versions and bounds."""

    goal_space_id: str = pa.Field(description="Hash of goals, scorer versions and bounds")
    position: int = pa.Field(ge=0, unique=True, description="Axis of the goal in z, 0-based")
    goal: str = pa.Field(unique=True, description="Goal name")
    scorer_id: str = pa.Field(description="Scorer and version")
    lower: float = pa.Field(description="Raw value that maps to z = 0")
    upper: float = pa.Field(description="Raw value that maps to z = 1; above `lower`")
    bounds: str = pa.Field(isin=["percentile", "fixed"], description="How the bounds were chosen")
    n_texts: int = pa.Field(ge=0, description="Texts with a defined value that the bounds were taken from")
