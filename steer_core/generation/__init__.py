"""Backends: generate and score plans, answers streamed and journalled as they end."""

from steer_core.generation.backend import (
    Backend,
    Call,
    Capabilities,
    Finished,
    Generation,
    Interventions,
    Stats,
    answer_all,
)
from steer_core.generation.journalled import run_calls

__all__ = [
    "Backend",
    "Call",
    "Capabilities",
    "Finished",
    "Generation",
    "Interventions",
    "Stats",
    "answer_all",
    "run_calls",
]
