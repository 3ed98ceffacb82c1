"""Errors that a user reads: what was wrong, where, and what to do."""

from __future__ import annotations


class SteerworksError(Exception):
    """Base of every error that Steerworks raises on purpose."""


class ContractError(SteerworksError):
    """Rows or columns break a table's contract; nothing was written."""


class TableError(SteerworksError):
    """A table's file is missing, damaged, or from another contract."""


class NotPublishedError(TableError):
    """A Parquet file that Steerworks did not publish."""


class OvertakenError(SteerworksError):
    """Another process has taken this work over, or done it already; nothing was published here."""


class ConfigError(SteerworksError):
    """A configured name or setting is unknown or makes no sense."""
