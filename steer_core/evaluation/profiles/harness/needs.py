"""The harness itself, where it is installed, and what it may be refused."""

from __future__ import annotations

from typing import Any

from steer_core.tables.errors import ConfigError, SteerworksError

#: Said where the extra is not installed.
NO_HARNESS = "tasks of the lm-evaluation-harness need it: pip install 'steerworks[lm-eval]'"


class HarnessRefusalError(SteerworksError):
    """A task asks for what the engine, or the arm, cannot do; other tasks may run."""


def harness() -> Any:
    """The package `lm_eval`.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import lm_eval
    except ImportError as error:
        raise ConfigError(NO_HARNESS) from error
    return lm_eval
