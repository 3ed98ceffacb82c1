"""Behavior sweeps: plan the arms, run them, score their answers and side effects, and say what came of it."""
