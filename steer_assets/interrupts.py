"""Ctrl-C is never lost: it is seen even where the exception that it raised was swallowed on the way.

Imports with a bare `except`, destructors and callbacks of extensions swallow an exception that comes while they run,
and Dagster forgets an interrupt that arrives as a run ends. So what the operating system delivered is counted beside,
and of what Python swallowed nothing is printed: somebody acts on it soon.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
import threading
from collections.abc import Iterator

import dagster as dg

#: The end that is read from, while somebody counts.
_ends: list[socket.socket] = []


@contextlib.contextmanager
def counting() -> Iterator[None]:
    """Count interrupts for a while, whatever handlers are set meanwhile; outside the main thread nothing is counted."""
    if threading.current_thread() is not threading.main_thread() or _ends:
        yield
        return
    read, written = socket.socketpair()
    read.setblocking(False)
    written.setblocking(False)
    earlier = signal.set_wakeup_fd(written.fileno(), warn_on_full_buffer=False)
    hook = sys.unraisablehook

    def unraisable(swallowed: sys.UnraisableHookArgs) -> None:
        if not issubclass(swallowed.exc_type, KeyboardInterrupt | dg.DagsterExecutionInterruptedError):
            hook(swallowed)

    sys.unraisablehook = unraisable
    _ends.append(read)
    try:
        yield
    finally:
        _ends.clear()
        sys.unraisablehook = hook
        signal.set_wakeup_fd(earlier)
        read.close()
        written.close()


def pressed() -> bool:
    """Whether Ctrl-C was pressed since somebody counts; stays true until they stop."""
    if not _ends:
        return False
    with contextlib.suppress(BlockingIOError):
        # looked at and left there: whoever asks next is to see it too
        return signal.SIGINT in _ends[0].recv(4096, socket.MSG_PEEK)
    return False


def check() -> None:
    """End this step where Ctrl-C was pressed and nobody acted on it.

    Raises:
        KeyboardInterrupt: it was.
    """
    if pressed():
        raise KeyboardInterrupt
