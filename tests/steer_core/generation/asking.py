"""Plans of whatever model a backend runs: tests write them once, for models of many families."""

from dataclasses import replace

from steer_core.generation.backend import Call, answer_all
from steer_core.steering import Plan


def of(backend, plans) -> list[Plan]:
    """The plans, for the backend's model."""
    return [replace(p, model=backend.model_identity) for p in plans]


def calls_of(backend, calls) -> list[Call]:
    """The calls, for the backend's model."""
    return [replace(c, plan=replace(c.plan, model=backend.model_identity)) for c in calls]


def answers(backend, calls, batch_size=64):
    """What the backend answers, in order."""
    return answer_all(backend, calls_of(backend, calls), batch_size)
