"""The lease on a device: one holder at a time, known by name, and let go before what needs no device."""

import os
import signal
import subprocess
import sys
import tempfile
import threading

import pytest

from steer_assets import devices
from steer_assets.devices import Devices, holder
from steer_core.tables.errors import ConfigError

HOLD = """
import sys, time
from steer_assets.devices import Devices
held = Devices(who="tales, direct|embedded")
with held.lease("cpu"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(devices, "LOOK_EVERY", 0.02)
    return tmp_path


def test_who_waits_says_for_whom_and_gets_the_device_when_its_holder_is_killed_outright(folder):
    command = [sys.executable, "-c", HOLD]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "TMPDIR": str(folder)}, text=True)
    assert process.stdout.readline() == "held\n"
    said = []
    waiter = Devices(say=said.append)
    killer = threading.Timer(0.5, process.send_signal, [signal.SIGKILL])
    killer.start()
    with waiter.lease("cpu"):
        assert said[0] == f"waiting for cpu, held by process {process.pid}: tales, direct|embedded"
        assert said[1].startswith("got cpu after ")
        assert holder("cpu").startswith(f"process {os.getpid()}: ")
    process.wait()
    process.stdout.close()


def test_devices_have_locks_of_their_own_and_a_remote_engine_needs_none(folder):
    first, second = Devices(), Devices()
    with first.lease("cpu"), second.lease("cuda:7"), second.lease(None) as remote:
        assert remote is None
        assert {p.name for p in folder.iterdir()} == {"steerworks-cpu.lock", "steerworks-cuda-7.lock"}


def test_of_several_devices_the_first_free_one_is_taken(folder, monkeypatch):
    monkeypatch.setattr(devices, "_candidates", lambda device: ["cuda:0", "cuda:1"])
    with Devices().lease("cuda") as first, Devices().lease("cuda") as second:
        assert (first, second) == ("cuda:0", "cuda:1")


def test_a_lease_within_a_lease_neither_waits_nor_frees_the_outer_one(folder):
    ours, other = Devices(), Devices()
    with ours.lease("cpu"):
        with ours.lease("cpu"):
            pass
        assert not other._take("cpu")
    assert other._take("cpu")
    other.let_go()


def test_a_kept_device_is_held_until_it_is_let_go(folder):
    ours, other = Devices(keep=True), Devices()
    with ours.lease("cpu"):
        pass
    assert not other._take("cpu")
    ours.let_go()
    assert other._take("cpu")
    other.let_go()


def test_several_devices_are_taken_at_once_and_one_of_them_is_kept(folder, monkeypatch):
    monkeypatch.setattr(devices, "_candidates", lambda device: ["cuda:0", "cuda:1", "cuda:2"])
    ours, other, said = Devices(keep=True), Devices(), []
    ours.say = said.append
    with ours.lease("cuda") as first:
        assert first == "cuda:0"
    taken = other.lease("cuda")
    assert taken.__enter__() == "cuda:1"
    # two are free, that which is kept among them: three are not, and none is held meanwhile
    with ours.lease_several("cuda", 2) as got:
        assert got == ("cuda:0", "cuda:2")
    assert set(ours.held) == {"cuda:0"}
    free = threading.Timer(0.3, taken.__exit__, [None, None, None])
    free.start()
    with ours.lease_several("cuda", 3) as got:
        assert got == ("cuda:0", "cuda:1", "cuda:2")
        assert said[0].startswith("waiting for cuda:1, held by process")
    ours.let_go()
    with pytest.raises(ConfigError, match="4 devices 'cuda' are wanted, and this machine has 3"):
        ours.lease_several("cuda", 4).__enter__()


def test_processes_see_the_cards_that_are_held_by_the_numbers_that_this_process_has_them_by(monkeypatch):
    monkeypatch.setattr(devices.DEVICES, "held", {"cuda:2": None, "cuda:0": None})
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert devices.visible_cards() == {"CUDA_VISIBLE_DEVICES": "0,2"}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-5,6")
    assert devices.visible_cards() == {"CUDA_VISIBLE_DEVICES": "4,6"}
    monkeypatch.setattr(devices.DEVICES, "held", {"cpu": None})
    assert devices.visible_cards() == {}
