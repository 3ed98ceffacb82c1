"""The explorer at this machine's own address: until Ctrl-C, or beside something else."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

from steer_assets.explore.server import Explorer
from steer_core.tables.errors import SteerworksError


def listening(port: int) -> socket.socket:
    """A socket at this machine's own address; who asks before the server is up waits, and is not refused.

    Raises:
        SteerworksError: the port is taken.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise SteerworksError(f"port {port} cannot be used ({error.strerror}): choose another one by --port") from error
    return listener


def serve(found: Explorer, port: int, ready: Callable[[str], object] = print) -> None:
    """Serve until Ctrl-C.

    Args:
        found: what.
        port: 0: a free one.
        ready: told the address once it answers.

    Raises:
        SteerworksError: the port is taken.
    """
    with listening(port) as listener:
        ready(f"http://localhost:{listener.getsockname()[1]}/")
        _server(found).run(sockets=[listener])


@contextlib.contextmanager
def in_background(found: Explorer, port: int) -> Iterator[str]:
    """Serve while the context lasts; yields the address.

    Raises:
        SteerworksError: the port is taken.
    """
    with listening(port) as listener:
        server = _server(found)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="explorer", daemon=True)
        thread.start()
        try:
            yield f"http://localhost:{listener.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join(10)


def _server(found: Explorer) -> Any:
    import uvicorn

    return uvicorn.Server(uvicorn.Config(found.app(), log_level="warning", server_header=False, lifespan="off"))
