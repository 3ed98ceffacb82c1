"""Fitting steering vectors: activations, statistics, estimators, preference training."""

#: Bumped when the same data and model give other vectors.
VERSION = "1"
