"""Methods: how a request is turned into plans, what is fitted first, and the driver that runs the rounds."""

from steer_core.methods.load import describe_method, load_method
from steer_core.methods.protocol import Artifact, Choose, GoalTarget, Method, Observation, Request

__all__ = [
    "Artifact",
    "Choose",
    "GoalTarget",
    "Method",
    "Observation",
    "Request",
    "describe_method",
    "load_method",
]
