"""The contracts: one strict pandera model a table, pydantic specs for everything a user configures.

`CONTRACTS` maps a table's name to its model; storage, the Dagster layer and the docs all derive from it.
This package imports nothing of the project.
"""

from schemas.contract import CONTRACTS, Contract
from schemas.corpus import SeedCorpus
from schemas.evaluation import (
    ClosedForm,
    Comparisons,
    GoalMovements,
    Leaderboard,
    SideEffects,
    Steerability,
    SteerabilitySummary,
)
from schemas.goals import GoalSpaceTable, GoalValues
from schemas.probes import ProbeDiagnostics, ProbeWeights, RequestGoals, Requests, RunPlans
from schemas.reports import Reports
from schemas.responses import Artifacts, Outcomes, Responses

__all__ = [
    "CONTRACTS",
    "Artifacts",
    "ClosedForm",
    "Comparisons",
    "Contract",
    "GoalMovements",
    "GoalSpaceTable",
    "GoalValues",
    "Leaderboard",
    "Outcomes",
    "ProbeDiagnostics",
    "ProbeWeights",
    "Reports",
    "RequestGoals",
    "Requests",
    "Responses",
    "RunPlans",
    "SeedCorpus",
    "SideEffects",
    "Steerability",
    "SteerabilitySummary",
]
