"""Kinds of profiles, one file each; `steer_core.evaluation.profiles.kind` says what one has."""
