"""What the first of several processes that train tells a run of Dagster by."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from dagster_pipes import open_dagster_pipes

from steer_core.adapters.launching import Told, observed


@contextlib.contextmanager
def telling() -> Iterator[Told]:
    """Lines to the run's log, and figures of steps as custom messages."""
    with open_dagster_pipes() as pipes:
        yield Told(pipes.log.info, lambda step, figures: pipes.report_custom_message(observed(step, figures)))
