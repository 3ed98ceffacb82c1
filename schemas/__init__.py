"""The contracts: one strict pandera model a table, pydantic specs for everything a user configures.

`CONTRACTS` maps a table's name to its model; storage, the Dagster layer and the docs all derive from it.
This package imports nothing of the project.
"""

from schemas.adapter_part import AdapterPart, LoraSpec, Recipe
from schemas.adapters import Adapters, CheckpointTrials, TrainingLog, TrainingMeasures, TrainingSamples
from schemas.amplify_part import AmplifyPart
from schemas.contract import CONTRACTS, Contract
from schemas.contrasts import BehaviorItems, ContrastExamples, ContrastSources, DataIntegrity, PreferencePairs
from schemas.corpus import SeedCorpus
from schemas.described import TraitAnswers, TraitFilters, TraitPrompts
from schemas.detection import Detections
from schemas.evaluation import (
    ClosedForm,
    Comparisons,
    GoalMovements,
    Leaderboard,
    ProbeArms,
    SideEffects,
    Steerability,
    SteerabilitySummary,
)
from schemas.goals import GoalSpaceTable, GoalValues
from schemas.guidance_part import GuidancePart
from schemas.parity import Parity
from schemas.playground import Tried
from schemas.probes import ProbeDiagnostics, ProbeWeights, RequestGoals, Requests, RunPlans
from schemas.profiles import (
    Frontier,
    OptionScores,
    ProfileArms,
    ProfileChanges,
    ProfileContrasts,
    ProfileDifferences,
    ProfileFigures,
    ProfileItems,
    ProfileJudges,
    ProfileReadings,
    ProfileRefusals,
    ProfileSummary,
    ProfileSynergy,
    ProfileValues,
    ProfileVectors,
    ScoredTexts,
    TextProfiles,
)
from schemas.reports import Reports
from schemas.responses import Artifacts, Attempts, Outcomes, PartTensors, Responses
from schemas.run_figures import RunFigures
from schemas.search import SearchResults, Trials
from schemas.sweeps import ArmAnswers, ArmScores, ArmSummary, JudgeCalibration, Judgements, SweepArms, SweepFindings
from schemas.validation import (
    GoalAgreement,
    Groundedness,
    GroundednessCalibration,
    GroundednessSummary,
    Rulings,
    SettledGroundedness,
)
from schemas.vector_part import VectorPart
from schemas.vectors import ActivationMap, DoseResponse, Vectors, VectorTensors

__all__ = [
    "CONTRACTS",
    "ActivationMap",
    "AdapterPart",
    "Adapters",
    "AmplifyPart",
    "ArmAnswers",
    "ArmScores",
    "ArmSummary",
    "Artifacts",
    "Attempts",
    "BehaviorItems",
    "CheckpointTrials",
    "ClosedForm",
    "Comparisons",
    "Contract",
    "ContrastExamples",
    "ContrastSources",
    "DataIntegrity",
    "Detections",
    "DoseResponse",
    "Frontier",
    "GoalAgreement",
    "GoalMovements",
    "GoalSpaceTable",
    "GoalValues",
    "Groundedness",
    "GroundednessCalibration",
    "GroundednessSummary",
    "GuidancePart",
    "JudgeCalibration",
    "Judgements",
    "Leaderboard",
    "LoraSpec",
    "OptionScores",
    "Outcomes",
    "Parity",
    "PartTensors",
    "PreferencePairs",
    "ProbeArms",
    "ProbeDiagnostics",
    "ProbeWeights",
    "ProfileArms",
    "ProfileChanges",
    "ProfileContrasts",
    "ProfileDifferences",
    "ProfileFigures",
    "ProfileItems",
    "ProfileJudges",
    "ProfileReadings",
    "ProfileRefusals",
    "ProfileSummary",
    "ProfileSynergy",
    "ProfileValues",
    "ProfileVectors",
    "Recipe",
    "Reports",
    "RequestGoals",
    "Requests",
    "Responses",
    "Rulings",
    "RunFigures",
    "RunPlans",
    "ScoredTexts",
    "SearchResults",
    "SeedCorpus",
    "SettledGroundedness",
    "SideEffects",
    "Steerability",
    "SteerabilitySummary",
    "SweepArms",
    "SweepFindings",
    "TextProfiles",
    "TrainingLog",
    "TrainingMeasures",
    "TrainingSamples",
    "TraitAnswers",
    "TraitFilters",
    "TraitPrompts",
    "Trials",
    "Tried",
    "VectorPart",
    "VectorTensors",
    "Vectors",
]
