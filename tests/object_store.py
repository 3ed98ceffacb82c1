"""An object store on this machine (moto), slow and unreliable where a test wants it.

`python -m tests.object_store PORT_FILE [LATENCY] [FAULTS] [SEED]` serves until it is stopped; `POST /_requests` tells what was
asked since the last time, as a JSON object of counts.
"""

import contextlib
import json
import os
import random
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

BUCKET = "steer"


class Unreliable:
    """A WSGI application that answers late, refuses, or loses its answer after it has done what was asked."""

    def __init__(self, app, latency=0.0, faults=0.0, seed=0):
        self.app, self.latency, self.faults = app, latency, faults
        self.random, self.lock, self.counts = random.Random(seed), threading.Lock(), Counter()

    def __call__(self, environ, start_response):
        if environ["PATH_INFO"] == "/_requests":
            with self.lock:
                told, self.counts = json.dumps(self.counts).encode(), Counter()
            start_response("200 OK", [("Content-Type", "application/json")])
            return [told]
        time.sleep(self.latency)
        with self.lock:
            fault = self.random.random()
            self.counts[kind_of(environ)] += 1
            if fault < self.faults / 3:
                return self.refused(start_response)
            # moto itself looks, then writes: one request at a time makes its conditions hold
            said = []
            body = b"".join(self.app(environ, lambda *a: said.append(a)))
        if fault < self.faults * 2 / 3:
            # done, and the answer is lost: the client has to find out
            return self.refused(start_response)
        if fault < self.faults and environ["REQUEST_METHOD"] == "GET":
            time.sleep(10 * self.latency)
        start_response(*said[0][:2])
        return [body]

    @staticmethod
    def refused(start_response):
        error = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
        start_response("503 Slow Down", [("Content-Type", "application/xml"), ("Content-Length", str(len(error)))])
        return [error]


def kind_of(environ):
    """What a request costs by: PUT, GET, LIST, HEAD, DELETE."""
    method, query = environ["REQUEST_METHOD"], environ["QUERY_STRING"]
    if method == "GET" and "list-type" in query:
        return "LIST"
    return method


@dataclass
class Store:
    """A server that runs."""

    process: subprocess.Popen
    port: int

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def settings(self):
        """What fsspec needs to find it."""
        return {"endpoint_url": self.endpoint, "key": "test", "secret": "test"}

    @property
    def environment(self):
        """The same, for the environment of another process."""
        return {f"FSSPEC_S3_{k.upper()}": v for k, v in self.settings.items()}

    def requests(self):
        """Counts of requests since the last time."""
        with urllib.request.urlopen(urllib.request.Request(f"{self.endpoint}/_requests", method="POST")) as answer:
            return json.load(answer)


@contextlib.contextmanager
def serving(folder, latency=0.0, faults=0.0, seed=0):
    """A store with an empty bucket."""
    note = Path(folder) / "port"
    command = [sys.executable, "-m", "tests.object_store", str(note), str(latency), str(faults), str(seed)]
    env = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    with (Path(folder) / "store.log").open("w") as log:
        process = subprocess.Popen(command, cwd=Path(__file__).parents[1], stdout=log, stderr=log, env=env)
    try:
        end = time.monotonic() + 60
        while not (note.exists() and note.read_text()):
            assert process.poll() is None, (Path(folder) / "store.log").read_text()
            assert time.monotonic() < end
            time.sleep(0.05)
        store = Store(process, int(note.read_text()))
        for _ in range(20):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(urllib.request.Request(f"{store.endpoint}/{BUCKET}", method="PUT"))
                break
        yield store
    finally:
        process.kill()
        process.wait()


def main(note, latency="0", faults="0", seed="0"):
    import logging

    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    app = Unreliable(DomainDispatcherApplication(create_backend_app), float(latency), float(faults), int(seed))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    Path(note).write_text(str(server.port))
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
