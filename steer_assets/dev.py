"""`make dev`: the Dagster UI on this machine, and the pages that its links open.

A browser opens no `file:` link from a page that came over http, so a small server on this machine hands the pages out.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from steer_assets.settings import dagster_home, pages_url, repository, storage_root
from steer_core.tables.files import filesystem, is_local


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """The UI's own log is what a person reads here."""


@contextlib.contextmanager
def serving_pages() -> Iterator[str | None]:
    """Hand out what lies below the storage root, to this machine only; yields the address, or None and says why not."""
    fs, folder = filesystem(storage_root())
    address = urlsplit(pages_url())
    if not is_local(fs) or address.hostname not in ("localhost", "127.0.0.1"):
        # somebody else serves the pages
        yield pages_url()
        return
    try:
        handler = functools.partial(_Quiet, directory=folder)
        server = ThreadingHTTPServer(("127.0.0.1", address.port or 80), handler)
    except OSError as error:
        print(f"pages are not served ({error}): set STEERWORKS_PAGES to a free port", file=sys.stderr, flush=True)
        yield None
        return
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield pages_url()
    finally:
        server.shutdown()


def main() -> int:
    """Run both until Ctrl-C; further arguments go to `dagster dev`."""
    home = dagster_home()
    # sensors may ask the webserver to load the locations again
    server = {"STEERWORKS_WEBSERVER": f"http://localhost:{_port(sys.argv[1:])}"}
    environment = {**server, **os.environ, "DAGSTER_HOME": str(home)}
    clone = repository()
    # a wheel brings no workspace file: the same two locations, named by their modules
    locations = (
        ["--workspace", str(clone / "workspace.yaml")]
        if clone
        else ["-m", "steer_assets.cpu", "-m", "steer_assets.gpu"]
    )
    command = [sys.executable, "-m", "dagster", "dev", *locations, *sys.argv[1:]]
    with serving_pages():
        process = subprocess.Popen(command, env=environment)
        # the terminal sends Ctrl-C to both; this one waits for the other to end in order
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: process.send_signal(signal.SIGINT))
        return process.wait()


def _port(arguments: Sequence[str]) -> str:
    """The port among the arguments of `dagster dev`, else its own."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-p", "--port", "--dagit-port", default="3000")
    return str(parser.parse_known_args(arguments)[0].port)


if __name__ == "__main__":
    sys.exit(main())
