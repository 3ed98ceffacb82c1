"""`make dev`: the Dagster UI on this machine, and the explorer, which hands out the pages that its links open.

A browser opens no `file:` link from a page that came over http.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from steer_assets.settings import dagster_home, explore_url, repository
from steer_core.tables.errors import SteerworksError


@contextlib.contextmanager
def serving_explorer() -> Iterator[str | None]:
    """Serve the explorer, to this machine only; yields its address, or None and says why not."""
    address = urlsplit(explore_url())
    if address.hostname not in ("localhost", "127.0.0.1"):
        # somebody else serves it
        yield explore_url()
        return
    from steer_assets.explore.server import explorer
    from steer_assets.explore.serving import in_background

    try:
        with in_background(explorer(), address.port or 80):
            yield explore_url()
    except SteerworksError as error:
        print(f"the explorer is not served ({error}): set STEERWORKS_EXPLORE", file=sys.stderr, flush=True)
        yield None


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
    os.environ.setdefault("STEERWORKS_WEBSERVER", server["STEERWORKS_WEBSERVER"])
    with serving_explorer() as explored:
        if explored:
            print(f"Explorer: {explored}/", flush=True)
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
