"""Batches: submitted, looked at, collected; partial failures sent again, overlaps sent once, nothing paid twice."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from far_models import calls_of

from steer_core.generation.remote.batch import Batches
from steer_core.generation.remote.faults import EndpointError
from steer_core.tables.errors import ConfigError

ROOT = Path(__file__).parents[3]


def batches_of(backend):
    return Batches(backend.wire, backend.ledger, backend.execution)


def test_a_batch_is_collected_failures_are_sent_again_and_overlaps_are_sent_once(serve, backend_at):
    server, address = serve(answers={"bad": "fails", "late": "unseen", "rude": "refuse"})
    prices = {"prompt": 1.0, "completion": 2.0, "batch": 0.5, "as_of": "2025-01-01"}
    backend = backend_at(address, dialect="openai", prices=prices)
    batches = batches_of(backend)
    first = calls_of(backend.spec, [f"q {i}" for i in range(40)] + ["bad one", "late one", "rude one"])
    second = calls_of(backend.spec, [f"q {i}" for i in range(20, 60)])
    sent = batches.submit(first)
    assert (len(sent.batches), sent.sent, sent.answered, sent.under_way) == (1, 43, 0, 0)
    # an overlapping batch holds only what is new
    other = batches.submit(second)
    assert (other.sent, other.under_way) == (20, 20)
    assert [(c.state, c.rows) for c in batches.poll()] == [("in_progress", 43), ("in_progress", 20)]
    assert [c.answers for c in batches.collect()] == [0, 0]
    # money is set aside meanwhile, and a run says what to do
    assert backend.ledger.money()[1] > 0
    with pytest.raises(EndpointError, match="batch collect"):
        list(backend.generate(first))
    server.work_batches()
    got = {c.batch_id: c for c in batches.collect()}
    assert [(c.answers, c.again) for c in got.values()] == [(41, 2), (20, 0)]
    assert batches.poll() == []
    assert len(server.worked) == len(set(server.worked)) == 62
    # what failed goes again, and nothing else does
    server.script.answers = {"rude": "refuse"}
    again = batches.submit(first)
    assert (again.sent, again.answered) == (2, 41)
    server.work_batches()
    batches.collect()
    found = {f.index: f.generation for f in backend.generate(first)}
    assert not server.requests
    assert found[3].raw == "answer to q 3"
    assert found[40].raw == "answer to bad one"
    assert found[42].finish_reason == "refused"
    spent, under_way = backend.ledger.money()
    # 63 answers at half the price of 10 read and 20 written tokens; who fails costs nothing
    assert spent == pytest.approx(63 * (10 + 40) / 1e6 / 2)
    assert under_way == pytest.approx(0.0, abs=1e-12)
    rows = backend.ledger.attempts()
    assert rows.filter(outcome="failed").height == 2
    assert (rows["batch_id"] != "").all()


def test_an_expired_batch_gives_what_it_has(serve, backend_at):
    server, address = serve(answers={"late": "unseen"})
    backend = backend_at(address, dialect="openai")
    batches = batches_of(backend)
    batches.submit(calls_of(backend.spec, ["on time", "late"]))
    server.work_batches("expired")
    (got,) = batches.collect()
    assert (got.state, got.answers, got.again) == ("expired", 1, 1)


def test_a_budget_bounds_a_batch_before_it_is_sent(serve, backend_at):
    _, address = serve()
    backend = backend_at(address, dialect="openai", max_cost=0.001)
    sent = batches_of(backend).submit(calls_of(backend.spec, [f"q {i}" for i in range(100)], max_new_tokens=20))
    assert 0 < sent.sent < 100
    assert "max_cost" in sent.left
    assert sum(backend.ledger.money()) <= 0.001


KILLED = """
import sys, os, signal
from far_models import calls_of, model_at
from steer_core.generation.engines.openai import OpenAiBackend
from steer_core.generation.remote.batch import Batches
from steer_core.generation.remote.ledger import Ledger
address, file, when = sys.argv[1:]
backend = OpenAiBackend(model_at(address, dialect="openai"), Ledger(__import__("pathlib").Path(file)))
batches = Batches(backend.wire, backend.ledger, backend.execution)
die = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
if when == "before":
    batches._client.files.create = die
else:
    backend.ledger.submitted = die
batches.submit(calls_of(backend.spec, ["a", "b", "c"]))
"""


@pytest.mark.parametrize(("when", "sent"), [("before", 3), ("after", 0)])
def test_a_batch_whose_process_was_killed_is_found_again_or_free(serve, backend_at, tmp_path, when, sent):
    server, address = serve()
    path = os.pathsep.join([str(ROOT.parent), str(ROOT), str(Path(__file__).parent)])
    child = subprocess.run(
        [sys.executable, "-c", KILLED, address, str(tmp_path / "ledger.sqlite"), when],
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    assert child.returncode == -signal.SIGKILL
    backend = backend_at(address, dialect="openai")
    batches = batches_of(backend)
    done = batches.submit(calls_of(backend.spec, ["a", "b", "c"]))
    assert (done.sent, done.under_way) == (sent, 3 - sent)
    server.work_batches()
    assert [c.answers for c in batches.collect()] == [3]
    assert sorted(server.worked) == ["a", "b", "c"]


def test_a_dialect_without_batches_says_so(serve, backend_at):
    _, address = serve()
    backend = backend_at(address)
    with pytest.raises(ConfigError, match="'compatible' has no batch API"):
        batches_of(backend)


def test_a_refused_file_sets_nothing_aside(serve, backend_at, monkeypatch):
    server, address = serve()
    backend = backend_at(address, dialect="openai", key="FAR_KEY")
    monkeypatch.setenv("FAR_KEY", "right")
    server.files = None  # the server breaks as it is asked
    with pytest.raises(EndpointError):
        batches_of(backend).submit(calls_of(backend.spec, ["a"]))
    assert backend.ledger.money() == (0.0, 0.0)
    assert backend.ledger.attempts().height == 0
