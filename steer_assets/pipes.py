"""Processes that train together, told of through Dagster Pipes: their lines and figures are the run's own.

The first of them opens Pipes (`steer_assets.telling`). Lines go to the run's log; figures of steps come back as custom
messages, and are passed on in the thread of the asset, like those of training in this process. Outside a run of Dagster
processes are started as the library starts them.
"""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import dagster as dg

from steer_assets.devices import visible_cards
from steer_core.adapters.launching import Group, Told, launched, run

#: What the first process tells by.
TELLER = "steer_assets.telling"
#: The assets that are being made in this process.
_contexts: list[dg.AssetExecutionContext] = []


@contextlib.contextmanager
def within(context: dg.AssetExecutionContext) -> Iterator[None]:
    """Tell this asset's run of the processes that are started meanwhile."""
    _contexts.append(context)
    try:
        yield
    finally:
        _contexts.pop()


def launch(group: Group, told: Told) -> None:
    """Start the processes of a group on the GPUs that this process holds, and wait until they have ended.

    Raises:
        SteerworksError: they failed.
    """
    group = replace(group, environment={**group.environment, **visible_cards()})
    if not _contexts:
        launched(group, told)
        return
    messages = queue.SimpleQueue[Mapping[str, Any]]()

    def pass_on() -> None:
        while not messages.empty():
            told.take(messages.get())

    with dg.open_pipes_session(
        context=_contexts[-1],
        context_injector=dg.PipesTempFileContextInjector(),
        message_reader=_AsTheyCome(messages),
    ) as session:
        run(replace(group, teller=TELLER), session.get_bootstrap_env_vars(), pass_on)
    # the session reads to the end when it is closed
    pass_on()


class _AsTheyCome(dg.PipesTempFileMessageReader):
    """Hands custom messages over as they come: Dagster keeps them for the end."""

    def __init__(self, messages: queue.SimpleQueue[Mapping[str, Any]]) -> None:
        super().__init__()
        self._messages = messages

    @contextlib.contextmanager
    def read_messages(self, handler: Any) -> Iterator[Any]:
        """As Dagster's, with a handler that hands over."""
        theirs = handler.handle_message

        def handle(message: Any) -> None:
            if message["method"] == "report_custom_message":
                self._messages.put(message["params"]["payload"])
            else:
                theirs(message)

        handler.handle_message = handle
        with super().read_messages(handler) as params:
            yield params
