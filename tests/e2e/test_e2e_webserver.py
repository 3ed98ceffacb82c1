"""What a person launches from the web interface is what runs: one cell, in one run, in one process."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest
import yaml

HOME = Path(__file__).parents[2]
CELLS = ["fit_responses", "plans", "responses", "behaviors", "scores", "steerability_report"]
SHARED = ["seed_corpus", "goal_mappings", "probes", "contrasts"]
BENCH = {
    "corpus": {"sources": [{"kind": "grammar", "n_texts": 60, "seed": 1}], "min_words": 5},
    "goals": ["reading_difficulty", "text_length", "formality", "sentiment"],
    "probes": [{"name": "main", "n_texts": 10, "n_goals_per_text": 2, "active": 2, "weighting": "none"}],
    "models": ["embedded"],
    "methods": ["copy", "rewrite", "direct"],
    "decoding": {"max_new_tokens": 24},
    "bootstrap": 50,
    "permutations": 5,
}
LAUNCH = """mutation($params: ExecutionParams!) {
  launchPipelineExecution(executionParams: $params) {
    __typename ... on LaunchRunSuccess {run {runId}} ... on PythonError {message}
    ... on RunConfigValidationInvalid {errors {message}} } }"""
BACKFILL = """mutation($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename ... on LaunchBackfillSuccess {backfillId} ... on PythonError {message} } }"""
RUNS = """{runsOrError {... on Runs {results {
  runId status tags {key value} assetMaterializations {assetKey {path} partition} } } } }"""


class Webserver:
    """`dagster dev` on a bench of its own, and what its web interface says over GraphQL."""

    def __init__(self, folder: Path) -> None:
        (folder / "benches.yaml").write_text(yaml.safe_dump({"small": BENCH}))
        shutil.copy(HOME / "dagster.yaml", folder)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        environment = {
            **os.environ,
            "STEERWORKS_CONFIG": f"{HOME / 'config'}{os.pathsep}{folder}",
            "STEERWORKS_ROOT": str(folder / "root"),
            "DAGSTER_HOME": str(folder),
            "TMPDIR": str(folder),
            "PYTHONPATH": str(HOME),
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, "-m", "dagster", "dev", "-w", str(HOME / "workspace.yaml"), "-p", str(self.port)]
        with (folder / "log").open("w") as log:
            self.process = subprocess.Popen(
                command, env=environment, cwd=folder, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def ask(self, query: str, **variables: object) -> dict:
        """One GraphQL request."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql",
            json.dumps({"query": query, "variables": variables}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            said = json.load(answer)
        assert "errors" not in said, said
        return said["data"]

    def wait(self, what, timeout: float = 180.0):
        """The first answer of `what` that is true."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            try:
                if found := what():
                    return found
            except OSError:
                pass
            time.sleep(0.5)
        raise TimeoutError(f"still false: {what}")

    def runs(self) -> list[dict]:
        """All runs, newest first."""
        return self.ask(RUNS)["runsOrError"]["results"]

    def ended(self, known: set[str], count: int = 1) -> list[dict]:
        """The runs beyond the known ones, once there are as many and all have ended."""

        def done():
            new = [r for r in self.runs() if r["runId"] not in known]
            over = all(r["status"] in ("SUCCESS", "FAILURE", "CANCELED") for r in new)
            return new if len(new) >= count and over else None

        return self.wait(done)

    def launch(self, location: str, nodes: list[str], cell: str | None = None) -> list[dict]:
        """What the dialog behind "Materialize" sends for one partition, or for an unpartitioned asset."""
        tags = {"dagster/from_ui": "true"}
        if cell:
            method, model = cell.split("|")
            tags |= {
                "dagster/partition": cell, "dagster/partition/method": method, "dagster/partition/model": model,
            }  # fmt: skip
        selector = {
            "repositoryLocationName": location,
            "repositoryName": "__repository__",
            "pipelineName": "__ASSET_JOB",
            "assetSelection": [{"path": ["small", n]} for n in nodes],
        }
        known = {r["runId"] for r in self.runs()}
        said = self.ask(
            LAUNCH,
            params={
                "mode": "default",
                "selector": selector,
                "runConfigData": "{}\n",
                "executionMetadata": {"tags": [{"key": k, "value": v} for k, v in tags.items()]},
            },
        )
        assert said["launchPipelineExecution"]["__typename"] == "LaunchRunSuccess", said
        return self.ended(known)

    def backfill(self, nodes: list[str], cells: list[str]) -> list[dict]:
        """What the web interface sends for several partitions."""
        known = {r["runId"] for r in self.runs()}
        selection = [{"path": ["small", n]} for n in nodes]
        said = self.ask(BACKFILL, params={"assetSelection": selection, "partitionNames": cells, "tags": []})
        found = said["launchPartitionBackfill"]
        assert found["__typename"] == "LaunchBackfillSuccess", said
        status = "query($id: String!) {partitionBackfillOrError(backfillId: $id) {... on PartitionBackfill {status}}}"
        over = ("COMPLETED_SUCCESS", "COMPLETED_FAILED", "COMPLETED", "FAILED")
        self.wait(
            lambda: self.ask(status, id=found["backfillId"])["partitionBackfillOrError"]["status"] in over, timeout=240
        )
        return self.ended(known)


def made(runs: list[dict]) -> set[tuple[str, str | None]]:
    """(node, cell) of everything that runs materialized."""
    return {(m["assetKey"]["path"][-1], m["partition"]) for r in runs for m in r["assetMaterializations"]}


@pytest.fixture(scope="module")
def webserver(tmp_path_factory):
    server = Webserver(tmp_path_factory.mktemp("webserver"))
    try:
        loaded = "{workspaceOrError {... on Workspace {locationEntries {loadStatus locationOrLoadError {__typename}}}}}"
        both = [{"loadStatus": "LOADED", "locationOrLoadError": {"__typename": "RepositoryLocation"}}] * 2
        server.wait(lambda: server.ask(loaded)["workspaceOrError"]["locationEntries"] == both, timeout=120)
        yield server
    finally:
        server.process.send_signal(signal.SIGINT)
        try:
            server.process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(server.process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def shared(webserver):
    """What all cells share is there."""
    (run,) = webserver.launch("cpu", SHARED)
    assert run["status"] == "SUCCESS"
    return webserver


@pytest.mark.e2e
def test_a_bench_is_a_dozen_nodes_and_each_cell_belongs_to_one_location(webserver):
    nodes = webserver.ask(
        "{shouldShowNux assetNodes {assetKey {path} groupName isMaterializable repository {location {name}} jobNames}}"
    )
    assert nodes["shouldShowNux"] is False
    of_bench = {n["assetKey"]["path"][1]: n for n in nodes["assetNodes"] if n["assetKey"]["path"][0] == "small"}
    where = {name: (n["groupName"], n["repository"]["location"]["name"]) for name, n in of_bench.items()}
    assert where == {
        **dict.fromkeys(SHARED, ("small_shared", "cpu")),
        **dict.fromkeys(CELLS, ("small_cells", "gpu")),
        "leaderboard": ("small_leaderboard", "cpu"),
    }
    assert all(n["isMaterializable"] for n in of_bench.values())
    # one job in common is what makes the web interface offer a choice of cell
    assert all("small_cell" in of_bench[name]["jobNames"] for name in CELLS)


@pytest.mark.e2e
def test_materialize_on_one_cell_runs_that_cell_in_one_run_of_one_process(shared):
    before = {p.pid for p in psutil.Process(shared.process.pid).children(recursive=True)}
    processes = set()

    def looked():
        for p in psutil.Process(shared.process.pid).children(recursive=True):
            try:
                if p.pid not in before and "spawn_main" in " ".join(p.cmdline()):
                    processes.add(p.pid)
            except psutil.Error:
                continue

    plain = shared.runs
    shared.runs = lambda: (looked(), plain())[1]
    try:
        runs = shared.launch("gpu", CELLS, "copy|embedded")
    finally:
        shared.runs = plain
    assert [r["status"] for r in runs] == ["SUCCESS"]
    # copy is a control: no other method follows it
    assert made(runs) == {(node, "copy|embedded") for node in CELLS}
    assert len(processes) == 1


@pytest.mark.e2e
def test_the_leaderboard_asks_for_no_cell(shared):
    # whichever tests of this file have run on this server: one cell is there
    shared.launch("gpu", CELLS, "copy|embedded")
    runs = shared.launch("cpu", ["leaderboard"])
    assert [r["status"] for r in runs] == ["SUCCESS"]
    assert made(runs) == {("leaderboard", None)}


@pytest.mark.e2e
def test_a_backfill_with_a_control_in_it_is_one_run_a_cell_and_no_other_cell(shared):
    cells = ["copy|embedded", "rewrite|embedded"]
    runs = shared.backfill(CELLS, cells)
    assert [r["status"] for r in runs] == ["SUCCESS"] * 2
    assert made(runs) == {(node, cell) for node in CELLS for cell in cells}
