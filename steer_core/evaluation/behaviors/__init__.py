"""Behavior sweeps: their tables as items in arms, side effects, and what came of it all."""
