"""A Ray cluster of several nodes on this machine, each a tree of processes that can be killed."""

import contextlib
import os
import random
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil

#: A dead node is known as one in seconds.
HEALTH = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "5000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "1",
}
MEMORY = str(100_000_000)


def free_port():
    """A port that Ray gives to no worker (from 10002 on), and the system to no connection that it opens (from 32768 on)."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as s, contextlib.suppress(OSError):
            s.bind(("127.0.0.1", port))
            return port


class Node:
    """One `ray start` and all that it has started."""

    def __init__(self, folder, name, arguments, environment, temporary):
        self.folder = Path(folder) / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = self.folder / "ray.log"
        temporary.mkdir(exist_ok=True)
        env = {
            **os.environ, **HEALTH, **environment, "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }  # fmt: skip
        command = [str(Path(sys.executable).parent / "ray"), "start", "--block", *arguments]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*command, "--object-store-memory", MEMORY, "--disable-usage-stats", "--min-worker-port", "0",
                 "--max-worker-port", "0", "--node-ip-address", "127.0.0.1"],
                stdout=log, stderr=subprocess.STDOUT, env=env, start_new_session=True,
            )  # fmt: skip
        end = time.monotonic() + 60
        while "Ray runtime started" not in self.log.read_text():
            if self.process.poll() is not None or time.monotonic() > end:
                self.kill()
                raise AssertionError(self.log.read_text())
            time.sleep(0.1)

    def kill(self):
        """SIGKILL to every process of the node."""
        with contextlib.suppress(psutil.NoSuchProcess):
            parent = psutil.Process(self.process.pid)
            tree = [parent, *parent.children(recursive=True)]
            for one in tree:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
            psutil.wait_procs(tree, 5)
        self.process.wait()


class Cluster:
    """A head that runs nothing, and nodes with some resources; the head keeps what it knows on disk."""

    def __init__(self, folder, keep=True):
        self.folder = Path(folder)
        self.port, self.dashboard = free_port(), free_port()
        self.environment = (
            {"RAY_gcs_storage": "rocksdb", "RAY_gcs_storage_path": str(self.folder / "gcs")} if keep else {}
        )
        self.nodes = {}
        # a socket's path has at most 107 characters, and a test's folder takes most of them
        self.temporary = Path("/tmp") / f"ray-{self.port}"
        self.temporary.mkdir()
        self.start_head()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def start_head(self):
        (self.temporary / "head" / "ray_current_cluster").unlink(missing_ok=True)
        self.head = Node(
            self.folder, "head",
            ["--head", "--port", str(self.port), "--dashboard-host", "127.0.0.1", "--dashboard-port", str(self.dashboard),
             "--ray-client-server-port", str(free_port()), "--dashboard-agent-listen-port", str(free_port()),
             "--num-cpus", "0", "--temp-dir", str(self.temporary / "head")],
            self.environment, self.temporary / "of-head",
        )  # fmt: skip

    def add(self, name, resources='{"place": 1}'):
        """Start a node; one after the other, for two at once take each other's names."""
        self.nodes[name] = Node(
            self.folder, name,
            ["--address", self.address, "--dashboard-agent-listen-port", str(free_port()), "--num-cpus", "1",
             "--resources", resources],
            self.environment, self.temporary / f"of-{name}",
        )  # fmt: skip
        return self.nodes[name]

    def stop(self):
        import shutil

        for node in [*self.nodes.values(), self.head]:
            node.kill()
        shutil.rmtree(self.temporary, ignore_errors=True)


@contextlib.contextmanager
def cluster(folder, names=("one", "other"), keep=True):
    """A cluster with these nodes, which leaves nothing behind. Starting one on a busy machine is tried again."""
    made = None
    for attempt in range(3):
        try:
            made = Cluster(Path(folder) / f"attempt-{attempt}", keep)
            for name in names:
                made.add(name)
            break
        except AssertionError:
            if made is not None:
                made.stop()
            if attempt == 2:
                raise
    try:
        yield made
    finally:
        made.stop()
