"""Plans: what a model is asked, as plain data. Whatever touches activations will live in this room and nowhere else."""

from steer_core.steering.plan import Message, Plan

__all__ = ["Message", "Plan"]
