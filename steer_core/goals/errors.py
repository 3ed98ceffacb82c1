"""Errors of scoring. Imported late by what worker processes load: the base class comes with the table library."""

from steer_core.tables.errors import SteerworksError


class ScoringError(SteerworksError):
    """A scorer failed on a text, or gave a value that is none; the message names scorer and text."""


class ScorerUnavailableError(SteerworksError):
    """A scorer needs a package, a model or data that is not installed; the message says how to get it."""
