"""Cells on a Ray cluster: spread over workers that keep their weights, or step by step from Dagster's own interface."""
