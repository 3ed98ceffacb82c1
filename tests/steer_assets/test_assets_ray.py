"""Ray without a cluster: what is asked before, which cell goes where, and when a step is taken for lost."""

import http.server
import json
import threading
from types import SimpleNamespace

import pytest
from ray.job_submission import JobStatus

from steer_assets.compute import gpu_executor, gpu_marks
from steer_assets.on_ray import executor
from steer_assets.on_ray.crew import Crew
from steer_assets.on_ray.preflight import check_dashboard, check_head, fits, parse_wants
from steer_core.tables.errors import ConfigError


@pytest.fixture
def dashboard():
    """An address that answers as a dashboard with one node of eight processors, and a dead one with a card."""
    nodes = [
        {"state": "ALIVE", "resources_total": {"CPU": 8.0, "memory": 1e9, "node:10.0.0.1": 1.0}},
        {"state": "DEAD", "resources_total": {"CPU": 8.0, "GPU": 1.0}},
    ]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"data": {"result": {"result": nodes}}}).encode())

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_cluster_is_asked_for_live_nodes_with_what_is_wanted(dashboard):
    check_dashboard(dashboard, {"CPU": 8})
    with pytest.raises(ConfigError, match=r"has 1 live nodes, and none of them GPU=1 \(they have CPU=8\)"):
        check_dashboard(dashboard, {"GPU": 1})
    with pytest.raises(ConfigError, match=r"dashboard does not answer at http://127.0.0.1:9 .*set RAY_ADDRESS"):
        check_dashboard("http://127.0.0.1:9", {"GPU": 1})
    with pytest.raises(ConfigError, match="no Ray head answers at 127.0.0.1:9 .*ray start --head"):
        check_head("127.0.0.1:9")


def test_what_a_worker_takes_is_written_as_pairs():
    assert parse_wants("GPU=1") == {"GPU": 1}
    assert parse_wants("CPU=4, big=0.5") == {"CPU": 4, "big": 0.5}
    with pytest.raises(ConfigError, match="are written as GPU=1"):
        parse_wants("GPU=one")
    assert fits({"GPU": 1, "CPU": 4}, {"GPU": 8, "CPU": 16}) == 4
    assert fits({"GPU": 1}, {"CPU": 16}) == 0


def test_steps_ask_each_executor_in_its_own_words(monkeypatch):
    assert gpu_marks()["dagster-ray/config"] == {"num_cpus": 0, "num_gpus": 1}
    assert gpu_marks()["dagster-k8s/config"]["container_config"]["resources"]["limits"] == {"nvidia.com/gpu": 1}
    monkeypatch.setenv("STEERWORKS_RAY_WORKER", "CPU=2,place=1")
    assert gpu_marks()["dagster-ray/config"] == {"num_cpus": 2, "num_gpus": 0, "resources": {"place": 1}}


def test_one_setting_puts_the_location_on_ray(monkeypatch):
    monkeypatch.setenv("STEERWORKS_GPU_EXECUTOR", "ray")
    assert gpu_executor().name == "ray"


class Client:
    """A cluster's answers about a job, one after the other."""

    def __init__(self, *answers):
        self.answers, self.submitted = list(answers), []

    def submit_job(self, entrypoint, **rest):
        self.submitted.append((entrypoint, rest))
        return rest["submission_id"]

    def get_job_status(self, job):
        found = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
        if isinstance(found, BaseException):
            raise found
        return found


@pytest.fixture
def handler(monkeypatch):
    def make(*answers):
        now = [0.0]
        config = SimpleNamespace(env_vars=[], runtime_env=None)
        client = Client(*answers)
        made = executor.step_handler(client, config, clock=lambda: now[0])
        monkeypatch.setattr(type(made), "_get_ray_job_submission_id", lambda self, context: "job-1", raising=False)
        return made, now

    return make


CONTEXT = SimpleNamespace(execute_step_args=SimpleNamespace(step_keys_to_execute=["step"]))


def test_a_job_that_was_stopped_is_a_failure(handler):
    made, _ = handler(JobStatus.RUNNING, JobStatus.RUNNING, JobStatus.STOPPED)
    assert made.check_step_health(CONTEXT).is_healthy
    found = made.check_step_health(CONTEXT)
    assert not found.is_healthy
    assert found.unhealthy_reason == "Ray job job-1 was stopped by somebody"


def test_a_job_that_ended_without_a_word_is_one_the_second_time(handler):
    made, _ = handler(JobStatus.SUCCEEDED)
    assert made.check_step_health(CONTEXT).is_healthy
    assert "without a word" in made.check_step_health(CONTEXT).unhealthy_reason


def test_a_head_that_is_silent_for_long_is_lost_and_one_that_comes_back_is_not(handler):
    made, now = handler(ConnectionError("refused"), JobStatus.RUNNING, JobStatus.RUNNING, ConnectionError("refused"))
    with pytest.raises(ConnectionError):
        made.check_step_health(CONTEXT)
    now[0] = executor.GRACE + 1
    assert made.check_step_health(CONTEXT).is_healthy
    # silence is counted anew
    with pytest.raises(ConnectionError):
        made.check_step_health(CONTEXT)
    now[0] += executor.GRACE + 1
    assert "start it again" in made.check_step_health(CONTEXT).unhealthy_reason


def test_a_step_is_the_process_that_its_supervisor_ends(handler):
    made, _ = handler(JobStatus.RUNNING)
    made.client.submit_job("dagster api execute_step x", submission_id="job-1")
    assert made.client.submitted == [("exec dagster api execute_step x", {"submission_id": "job-1"})]


def test_a_cell_goes_to_the_worker_that_has_its_weights():
    crew = Crew("small", {"GPU": 1}, "auto")
    cell = SimpleNamespace(model=SimpleNamespace(name="llama"))
    crew.idle = {"fresh": "", "other": "gpt"}
    assert crew.best_for(cell) == "fresh"
    crew.idle["own"] = "llama"
    assert crew.best_for(cell) == "own"
    crew.idle = {"other": "gpt"}
    assert crew.best_for(cell) == "other"
