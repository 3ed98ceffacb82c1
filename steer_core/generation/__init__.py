"""Backends: generate and score plans in batches, resumably."""

from steer_core.generation.backend import Backend, Call, Capabilities, Generation
from steer_core.generation.runner import run_calls

__all__ = ["Backend", "Call", "Capabilities", "Generation", "run_calls"]
