"""A shared Dagster with the files of `deploy/`: Postgres, code servers, queue, daemon. Nobody watches; a model turns up."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml
from dagster import DagsterEventType, DagsterInstance
from test_e2e_webserver import BENCH, CELLS, HOME, SHARED, Webserver, made

from tests.postgres_server import postgres

START = """mutation($s: SensorSelector!) {startSensor(sensorSelector: $s) {
  __typename ... on PythonError {message} ... on Sensor {sensorState {status}} } }"""
LOADED = "{workspaceOrError {... on Workspace {locationEntries {loadStatus locationOrLoadError {__typename}}}}}"
TICKS = """query($s: SensorSelector!) {sensorOrError(sensorSelector: $s) {
  ... on Sensor {sensorState {ticks(limit: 20) {status skipReason error {message} runIds}}} } }"""


class Deployment(Webserver):
    """Two code servers, webserver and daemon as `deploy/compose.yaml` starts them, on one machine, without Docker."""

    def __init__(self, folder: Path, instance: dict) -> None:
        self.folder = folder
        (folder / "models").mkdir()
        bench = {**BENCH, "methods": ["copy", "rewrite"], "watch": {"models": {"folder": "models"}}}
        (folder / "benches.yaml").write_text(yaml.safe_dump({"small": bench}))
        (folder / "dagster.yaml").write_text(yaml.safe_dump(instance))
        self.port, *ports = _free_ports(3)
        self.environment = {
            **os.environ,
            "STEERWORKS_CONFIG": f"{HOME / 'config'}{os.pathsep}{folder}",
            "STEERWORKS_ROOT": str(folder / "root"),
            "STEERWORKS_WEBSERVER": f"http://127.0.0.1:{self.port}",
            "DAGSTER_HOME": str(folder),
            "TMPDIR": str(folder),
            "PYTHONPATH": str(HOME),
            "OMP_NUM_THREADS": "1",
        }
        workspace = yaml.safe_load((HOME / "deploy" / "workspace.yaml").read_text())
        for server, port in zip(workspace["load_from"], ports, strict=True):
            server["grpc_server"] |= {"host": "localhost", "port": port}
        (folder / "workspace.yaml").write_text(yaml.safe_dump(workspace))
        where = ["-w", str(folder / "workspace.yaml")]
        self.processes = [
            *(
                self.start("code", "dagster", "code-server", "start", "-p", str(port), "-m", f"steer_assets.{name}")
                for name, port in zip(("cpu", "gpu"), ports, strict=True)
            ),
            self.start("web", "dagster_webserver", "-h", "127.0.0.1", "-p", str(self.port), *where),
            self.start("daemon", "dagster._daemon", "run", *where),
        ]

    def start(self, log: str, *command: str) -> subprocess.Popen:
        with (self.folder / f"{log}.log").open("a") as out:
            return subprocess.Popen(
                [sys.executable, "-m", *command],
                env=self.environment, cwd=self.folder, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def sensor(self, name: str) -> dict:
        return {"sensorName": name, "repositoryName": "__repository__", "repositoryLocationName": "gpu"}

    def ticks(self, name: str) -> list[dict]:
        return self.ask(TICKS, s=self.sensor(name))["sensorOrError"]["sensorState"]["ticks"]

    def stop(self) -> None:
        for process in reversed(self.processes):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        _, alive = psutil.wait_procs([psutil.Process(p.pid) for p in self.processes if p.poll() is None], 20)
        for process in alive:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _free_ports(n: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@pytest.fixture
def deployment(tmp_path, monkeypatch):
    from sqlalchemy.engine import make_url

    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with postgres() as uri:
        url = make_url(uri)
        for name, value in {"HOST": "localhost", "USER": url.username, "PASSWORD": "", "DB": url.database}.items():
            monkeypatch.setenv(f"STEERWORKS_PG_{name}", value)
        instance = yaml.safe_load((HOME / "deploy" / "dagster.yaml").read_text())
        # this server answers at a socket of the file system; and a minute of looking is too long for a test
        instance["storage"]["postgres"]["postgres_db"]["params"] = {"host": url.query.get("host") or url.host}
        instance["run_monitoring"]["poll_interval_seconds"] = 3
        (tmp_path / "home").mkdir()
        found = Deployment(tmp_path / "home", instance)
        try:
            both = [{"loadStatus": "LOADED", "locationOrLoadError": {"__typename": "RepositoryLocation"}}] * 2
            found.wait(lambda: found.ask(LOADED)["workspaceOrError"]["locationEntries"] == both, timeout=120)
            yield found
        finally:
            found.stop()


@pytest.mark.e2e
def test_a_model_that_turns_up_is_measured_and_a_lost_process_is_made_up_for(deployment, tiny_model):
    (run,) = deployment.launch("cpu", SHARED)
    assert run["status"] == "SUCCESS"
    begun = time.monotonic()
    said = deployment.ask(START, s=deployment.sensor("small_arrivals"))["startSensor"]
    assert said.get("sensorState") == {"status": "RUNNING"}, said
    shutil.copytree(tiny_model(), deployment.folder / "models" / "tiny")
    known = {run["runId"]}

    def launched():
        bad = [t for t in deployment.ticks("small_arrivals") if t["status"] == "FAILURE"]
        assert not bad, bad
        new = [r for r in deployment.runs() if r["runId"] not in known]
        return new if len(new) >= 2 else None

    first = deployment.wait(launched, timeout=180)
    took = time.monotonic() - begun
    reasons = [t["skipReason"] or "" for t in deployment.ticks("small_arrivals")]
    assert "turned up: tiny. The code locations were loaded again" in reasons
    cells = {next(t["value"] for t in r["tags"] if t["key"] == "dagster/partition") for r in first}
    assert cells == {"copy|tiny", "rewrite|tiny"}

    # the machine of one of them is lost: a process that is gone says nothing
    with DagsterInstance.from_config(str(deployment.folder)) as instance:
        victim = next(r["runId"] for r in first if {"key": "dagster/partition", "value": "rewrite|tiny"} in r["tags"])
        pid = deployment.wait(lambda: _process_of(instance, victim))
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(pid).kill()
        runs = deployment.wait(lambda: _all_over(deployment, known, 3), timeout=180)
        by_status = {r["runId"]: r["status"] for r in runs}
        assert by_status.pop(victim) == "FAILURE"
        assert set(by_status.values()) == {"SUCCESS"}
        again = next(r for r in runs if {"key": "dagster/parent_run_id", "value": victim} in r["tags"])
        # retried once, by the daemon, and nothing else was
        assert {"key": "dagster/retry_number", "value": "1"} in again["tags"]
        assert len(runs) == 3
    # what the lost process had already made counts, and is not made again: when it is lost goes by the machine's load
    assert {(node, cell) for node in CELLS for cell in cells} <= made(runs)
    assert ("steerability_report", "rewrite|tiny") in made([again])
    print(f"\nfrom the folder to the first run: {took:.0f} s; all: {time.monotonic() - begun:.0f} s")


def _process_of(instance, run_id: str) -> int | None:
    """The process that a run's worker says it is, once it has begun a step."""
    records = instance.get_records_for_run(run_id).records
    events = [r.event_log_entry for r in records]
    if not any(e.dagster_event and e.dagster_event.event_type == DagsterEventType.STEP_START for e in events):
        return None
    said = [e.dagster_event.message or "" for e in events if e.dagster_event]
    return next((int(m.split("(pid: ")[1].split(")")[0]) for m in said if "(pid: " in m), None)


def _all_over(deployment, known: set[str], count: int):
    runs = [r for r in deployment.runs() if r["runId"] not in known]
    over = all(r["status"] in ("SUCCESS", "FAILURE", "CANCELED") for r in runs)
    return runs if len(runs) >= count and over else None
