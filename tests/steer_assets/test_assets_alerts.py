"""A red check and a failed run reach a webhook, in words; a green run says nothing."""

import http.server
import json
import threading

import dagster as dg
import pytest

from steer_assets import alerts
from steer_assets.alerts import alert_sensors


@dg.asset(check_specs=[dg.AssetCheckSpec("held", asset="measured")])
def measured(context):
    state = context.run.tags["state"]
    if state == "broken":
        raise dg.Failure("responses: the endpoint refuses every request (401): set its key")
    yield dg.MaterializeResult()
    yield dg.AssetCheckResult(
        passed=state == "green", check_name="held", metadata={"share": 0.31, "bound": "at most .05"}
    )


@pytest.fixture
def hook(monkeypatch):
    """What was posted, and to where."""
    got = []

    class Handler(http.server.BaseHTTPRequestHandler):
        status = 200

        def do_POST(self):
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(self.status)
            self.end_headers()

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("STEERWORKS_WEBHOOK", f"http://127.0.0.1:{server.server_port}/x")
    yield got, Handler
    server.shutdown()
    server.server_close()


def tick(state):
    """What the sensors say of a run that ends so."""
    red, failed = alert_sensors("test")
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize([measured], instance=instance, tags={"state": state}, raise_on_error=False)
        event = next(e for e in result.all_events if e.is_job_success or e.is_job_failure)
        context = dg.build_run_status_sensor_context(
            "test", dagster_event=event, dagster_instance=instance, dagster_run=result.dagster_run
        )
        return list((red if result.success else failed)(context) or [])


def test_a_green_run_says_nothing(hook):
    tick("green")
    assert hook[0] == []


def test_a_red_check_is_told_with_its_figures(hook):
    tick("red")
    (message,) = hook[0]
    assert message["findings"] == ["red check held of measured: bound at most .05, share 0.31"]
    assert message["text"].splitlines()[0].endswith("came out with 1 finding")
    assert message["run"]


def test_a_failed_run_is_told_in_the_words_of_its_step(hook):
    tick("broken")
    (message,) = hook[0]
    assert message["findings"] == ["measured: responses: the endpoint refuses every request (401): set its key"]


def test_a_webhook_that_does_not_take_it_is_told_again_and_then_a_failed_tick(hook, monkeypatch):
    monkeypatch.setattr(alerts, "PAUSE", 0.0)
    hook[1].status = 500
    with pytest.raises(Exception, match="500"):
        tick("red")
    assert len(hook[0]) == 3


def test_mail_is_dagsters_own_and_needs_its_settings(monkeypatch):
    assert [s.name for s in alert_sensors("cpu")] == ["alert_red_checks_cpu", "alert_failures_cpu"]
    for name, value in {"FROM": "steer@example.org", "PASSWORD": "x", "TO": "a@example.org, b@example.org"}.items():
        monkeypatch.setenv(f"STEERWORKS_MAIL_{name}", value)
    assert [s.name for s in alert_sensors("cpu")][-1] == "mail_failures_cpu"
