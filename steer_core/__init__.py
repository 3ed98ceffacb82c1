"""Steerworks: measure and build steering for language models. Pure library; Dagster lives in `steer_assets`."""
