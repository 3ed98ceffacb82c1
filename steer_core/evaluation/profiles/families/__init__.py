"""Families of metrics, one file each; see `steer_core.evaluation.profiles.family`."""
