"""Scorers of toxicity, one file each; see `steer_core.evaluation.profiles.scorer` for what a scorer is."""
