"""Rows are answered once, whatever goes wrong; what cannot be answered is said once, and nothing that came is lost."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from far_models import calls_of, model_at

from schemas import Attempts
from steer_core.generation.remote.faults import EndpointError
from steer_core.generation.remote.ledger import BudgetError
from steer_core.tables.errors import ConfigError, SteerworksError
from steer_core.tables.validation import check

#: More than a third of all requests go wrong.
FAULTS = {"429": 0.1, "500": 0.06, "reset": 0.05, "cut": 0.03, "half": 0.03, "html": 0.03, "inside": 0.03, "slow": 0.02}


def test_each_row_is_answered_once_through_a_third_of_faults(serve, backend_at):
    server, address = serve(faults=FAULTS)
    backend = backend_at(address, concurrency=32)
    calls = calls_of(backend.spec, [f"question {i}" for i in range(500)])
    found = list(backend.generate(calls))
    assert sorted(f.index for f in found) == list(range(500))
    assert all(f.generation.raw == f"answer to question {f.index}" for f in found)
    rows = check(backend.ledger.attempts(), Attempts)
    kinds = Counter(rows["outcome"])
    assert kinds["answered"] == 500
    assert rows.height == len(server.requests) > 600
    # what was done twice is what was done, and then lost on its way: cut, halved, or behind a web page or an error
    assert len(server.worked) - 500 <= kinds["cut"] + kinds["garbage"] + kinds["failed"]
    assert min(kinds["waiting"], kinds["failed"], kinds["cut"], kinds["garbage"]) > 0
    assert server.most_in_flight <= 32
    # and again: nothing is asked
    asked = len(server.requests)
    assert len(list(backend.generate(calls))) == 500
    assert len(server.requests) == asked


@pytest.mark.parametrize("addresses", [1, 2])
def test_three_killed_processes_lose_what_was_in_flight_and_nothing_else(tmp_path, addresses):
    log, root = tmp_path / "work.log", Path(__file__).parents[3]
    log.touch()
    script = {"faults": {"429": 0.1, "500": 0.1, "reset": 0.1}, "delay": 0.02}
    serving = [sys.executable, str(root / "fake_endpoint.py"), "0", str(log), json.dumps(script)]
    servers = [subprocess.Popen(serving, stdout=subprocess.PIPE) for _ in range(addresses)]
    try:
        at = ",".join(f"http://127.0.0.1:{int(s.stdout.readline())}/v1" for s in servers)
        asking = [sys.executable, str(Path(__file__).parent / "ask.py"), at, str(tmp_path), "400"]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root.parent), str(root)])}
        for k in range(3):
            child = subprocess.Popen(asking, env=env, stdout=subprocess.PIPE)
            until = 60 + 80 * k
            while len(log.read_text().splitlines()) < until and child.poll() is None:
                time.sleep(0.01)
            child.send_signal(signal.SIGKILL)
            child.wait()
        done = subprocess.run(asking, env=env, capture_output=True, text=True, timeout=120, check=True)
    finally:
        for server in servers:
            server.kill()
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["answers"] == 400
    assert said["right"] == 400
    worked = Counter(json.loads(line) for line in log.read_text().splitlines())
    assert len(worked) == 400
    # three kills with 16 in flight each; nothing that had arrived was asked for again
    assert sum(worked.values()) - 400 <= 3 * 16
    assert said["lost"] <= 3 * 16
    # what was lost is paid for
    assert said["open"] == 0.0
    assert said["spent"] > 0.0


def test_a_budget_is_never_exceeded_and_a_raised_one_goes_on(serve, backend_at):
    server, address = serve()
    # an answer costs 6 + 4/2 prompt and 20 written tokens: 48e-6; a request reserves more
    backend = backend_at(address, max_cost=0.002)
    calls = calls_of(backend.spec, [f"question {i}" for i in range(100)], max_new_tokens=20)
    with pytest.raises(BudgetError, match=r"max_cost 0\.002 USD: .* spent so far.*Raise `max_cost`"):
        list(backend.generate(calls))
    spent, open_ = backend.ledger.money()
    assert spent <= 0.002
    assert open_ == pytest.approx(0.0, abs=1e-12)
    before = len(server.worked)
    assert 35 <= before < 100
    backend.ledger.close()
    raised = backend_at(address, max_cost=0.01)
    assert len(list(raised.generate(calls))) == 100
    assert len(server.worked) == 100
    assert raised.ledger.money()[0] == pytest.approx(100 * (6 * 1 + 4 * 0.5 + 20 * 2) / 1e6)


def stopped_by(serve, backend_at, **script):
    _, address = serve(**script)
    backend = backend_at(address, patience=0.5, attempts=3, key="FAR_KEY")
    with pytest.raises(SteerworksError) as caught:
        list(backend.generate(calls_of(backend.spec, ["a", "b", "c", "d", "e"])))
    return backend, str(caught.value)


@pytest.mark.parametrize(
    ("always", "said"),
    [
        ((401, '{"error": {"message": "Incorrect API key provided: sk-secret-123456"}}', {}), "look at the key"),
        ((403, '{"detail": "not yours"}', {}), "look at the key"),
        ((404, '{"error": {"message": "The model `far-1` does not exist"}}', {}), "does not exist"),
        ((402, '{"error": {"message": "pay"}}', {}), "no money left"),
        ((429, '{"error": {"code": "insufficient_quota", "message": "exceeded your current quota"}}', {}), "no money left"),
        ((429, '{"error": {"message": "busy"}}', {"retry-after": "86400"}), "asks to wait 86400 s"),
        ((429, '{"error": {"message": "busy"}}', {"retry-after": "0.05"}), "no answer for 0.5 s"),
        ((429, '{"error": {"message": "busy"}}', {"retry-after": "soon"}), "no answer for 0.5 s"),
        ((400, '{"error": {"message": "Unsupported parameter: temperature"}}', {}), "endpoint.leave_out"),
        ((200, "<html>welcome</html>", {"content-type": "text/html"}), "a web page"),
        ((200, '{"choices": [', {}), "no JSON"),
        ((200, '{"choices": []}', {}), "another JSON"),
        ((200, '{"choices": [{"message": {"content": "half an ans"}}]}', {}), "no finish_reason"),
        ((200, '{"error": {"message": "no such model", "code": 404}}', {}), "no such model"),
        ((500, "<html><h1>Internal Server Error</h1></html>", {}), "500"),
        ((418, "teapot", {}), "418"),
    ],
)  # fmt: skip
def test_what_no_retry_helps_stops_the_run_with_one_message(serve, backend_at, monkeypatch, always, said):
    monkeypatch.setenv("FAR_KEY", "k-very-secret")
    backend, message = stopped_by(serve, backend_at, always=always)
    assert said in message
    assert "127.0.0.1" in message
    assert "secret" not in message
    rows = backend.ledger.attempts()
    assert not rows["detail"].str.contains("secret").any()
    assert not (rows["outcome"] == "sent").any()


def test_a_wrong_key_is_named_by_its_variable_and_never_shown(serve, backend_at, monkeypatch):
    monkeypatch.setenv("FAR_KEY", "sk-wrong-secret")
    backend, message = stopped_by(serve, backend_at, key="right")
    assert "look at the key" in message
    assert "secret" not in message
    assert not backend.ledger.attempts()["detail"].str.contains("secret").any()


def test_a_key_that_is_not_set_is_said_before_anything_is_sent(serve, backend_at, monkeypatch):
    monkeypatch.delenv("FAR_KEY", raising=False)
    server, address = serve()
    with pytest.raises(ConfigError, match="environment variable FAR_KEY, which is not set"):
        list(backend_at(address, key="FAR_KEY").generate(calls_of(model_at(address), ["a"])))
    assert not server.requests


def test_nobody_at_the_address(backend_at):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    backend = backend_at(address)
    with pytest.raises(EndpointError, match="nothing answers there"):
        list(backend.generate(calls_of(backend.spec, ["a", "b"])))
    # what was never sent costs nothing
    assert backend.ledger.money() == (0.0, 0.0)


def test_a_row_that_the_endpoint_refuses_leaves_the_others_alone(serve, backend_at):
    _, address = serve(answers={"strange": "odd"})
    backend = backend_at(address)
    calls = calls_of(backend.spec, [*(f"q {i}" for i in range(20)), "strange", *(f"r {i}" for i in range(20))])
    got = []
    with pytest.raises(EndpointError, match=r"1 of 41 rows have no answer .*this prompt is malformed"):
        got.extend(f.index for f in backend.generate(calls))
    assert sorted(got) == [i for i in range(41) if i != 20]


@pytest.mark.parametrize(
    ("how", "finish", "text"),
    [
        ("refuse", "refused", "I cannot help with that."),
        ("filter", "filtered", ""),
        ("blocked", "filtered", ""),
        ("truncate", "length", "answer to odd one"),
        ("empty", "stop", ""),
        ("overlong", "overlong", ""),
        ("think", "stop", "answer to odd one"),
    ],
)  # fmt: skip
def test_an_answer_that_is_none_is_a_row_and_is_not_asked_again(serve, backend_at, how, finish, text):
    server, address = serve(answers={"odd": how})
    backend = backend_at(address)
    calls = calls_of(backend.spec, ["odd one", "plain one"])
    for _ in range(2):
        found = {f.index: f.generation for f in backend.generate(calls)}
        assert (found[0].finish_reason, found[0].raw) == (finish, text)
        assert found[1].raw == "answer to plain one"
    assert len(server.requests) == 2
    (row,) = backend.ledger.attempts([calls[0].response_id(backend.execution)]).iter_rows(named=True)
    assert row["thinking"] == ("let me see" if how == "think" else "")
    assert row["reasoning_tokens"] == (5 if how == "think" else 0)


def test_a_source_that_waits_for_nothing_is_an_error_and_never_a_short_answer(serve, backend_at):
    _, address = serve()
    backend = backend_at(address)
    with pytest.raises(SteerworksError, match="waits for rows under way, and there are none"):
        list(backend.generate(c for c in [*calls_of(backend.spec, ["a"]), None, None, None]))
