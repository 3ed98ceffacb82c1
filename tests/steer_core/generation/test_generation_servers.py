"""The launcher of vLLM, without vLLM: command, environment, room, and what it says when a start fails."""

import importlib.metadata
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from vllm_fakes import fake_python

from steer_core.generation.servers.command import ServeOptions, command_line, process_environment
from steer_core.generation.servers.process import ServerError, _alive
from steer_core.generation.servers.remedies import explain, remedy
from steer_core.generation.servers.room import VllmEnvironment, find_vllm, make_room, package_digest
from steer_core.generation.servers.server import Server
from steer_core.generation.vllm_worker.support import OPERATORS
from steer_core.tables.errors import ConfigError

CPU = VllmEnvironment(Path("/v/bin/python"), "0.31.0", cpu=True)
GPU = VllmEnvironment(Path("/v/bin/python"), "0.31.0", cpu=False)


def after(words, flag):
    return words[words.index(flag) + 1]


def test_the_command_says_what_is_served():
    words = command_line(CPU, ServeOptions("/m", name="llama", max_context=512, pass_tokens=64), "127.0.0.1", 8123)
    assert words[:5] == ["/v/bin/python", "-m", "vllm.entrypoints.cli.main", "serve", "/m"]
    assert after(words, "--port") == "8123"
    assert after(words, "--served-model-name") == "llama"
    assert after(words, "--max-model-len") == "512"
    assert after(words, "--max-num-batched-tokens") == "64"
    assert after(words, "--worker-cls") == "steerworks_vllm.worker.SteerWorker"
    assert package_digest() in after(words, "--additional-config")
    assert "--enforce-eager" in words
    assert "--enable-lora" not in words
    # vLLM would take nearly all memory of a machine without a GPU
    assert after(words, "--kv-cache-memory-bytes") == str(2**30)
    assert "--kv-cache-memory-bytes" not in command_line(GPU, ServeOptions("/m"), "127.0.0.1", 1)


def test_stock_vllm_is_served_without_the_worker():
    words = command_line(CPU, ServeOptions("/m", steered=False, more=("--quiet", "x")), "127.0.0.1", 1)
    assert "--worker-cls" not in words
    assert words[-2:] == ["--quiet", "x"]


@pytest.mark.parametrize(("adapters", "slots", "loras"), [({"a": "/a"}, 0, "2"), ({"a": "/a"}, 3, "4"), ({}, 1, "2")])
def test_one_slot_of_adapters_stays_empty(adapters, slots, loras):
    words = command_line(CPU, ServeOptions("/m", adapters=adapters, adapter_slots=slots), "127.0.0.1", 1)
    assert after(words, "--max-loras") == loras
    assert ("--lora-modules" in words) == bool(adapters)


def test_the_room_stands_before_what_is_inherited():
    room = {"PYTHONPATH": "/room/site", "STEERWORKS_VLLM_ROOM": "/room"}
    assert process_environment(room, {"PYTHONPATH": "/mine", "HOME": "/h"})["PYTHONPATH"] == "/room/site:/mine"
    found = process_environment(room, {"HOME": "/h"})
    assert found["PYTHONPATH"] == "/room/site"
    assert (found["HOME"], found["VLLM_SERVER_DEV_MODE"]) == ("/h", "1")


def test_the_room_holds_package_plugin_and_shim(tmp_path):
    (tmp_path / "vectors").mkdir()
    (tmp_path / "vectors" / "old.json").write_text("{}")
    variables = make_room(tmp_path, CPU)
    site = variables["PYTHONPATH"]
    found = {d.metadata["Name"]: d for d in importlib.metadata.distributions(path=[site])}
    # by this version vLLM knows that it is on a CPU
    assert found["vllm"].version == "0.31.0+cpu"
    (plugin,) = found["steerworks_vllm"].entry_points
    assert (plugin.group, plugin.value) == ("vllm.general_plugins", "steerworks_vllm.plugin:register")
    assert {f.stem for f in (Path(site) / "steerworks_vllm" / "operators").glob("[a-z]*.py")} == set(OPERATORS)
    assert not list((tmp_path / "vectors").iterdir())
    make_room(tmp_path, GPU)
    assert "vllm" not in {d.metadata["Name"] for d in importlib.metadata.distributions(path=[site])}


def test_the_package_in_the_room_imports_by_itself(tmp_path):
    import subprocess

    site = make_room(tmp_path, CPU)["PYTHONPATH"]
    code = f"import sys; sys.path.insert(0, {site!r}); sys.modules['steer_core'] = sys.modules['schemas'] = None\n"
    code += "from steerworks_vllm import catalogue, lanes, spec, steerer\nprint(catalogue.operator('affine').__name__)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert said.stdout.strip() == "steerworks_vllm.operators.affine", said.stderr


def test_an_environment_without_vllm_is_named_with_the_way_out(tmp_path):
    with pytest.raises(ConfigError, match=r"has no vLLM: .*make \.venv-vllm"):
        find_vllm(Path(sys.executable))
    with pytest.raises(ConfigError, match="cannot be run"):
        find_vllm(tmp_path / "python")


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("OSError: [Errno 98] error while attempting to bind: address already in use", "its port is taken"),
        (
            "ValueError: To serve at least one request with the model's max seq len (768), (0.01 GiB KV cache is needed, "
            "which is larger than the available KV cache memory (0.0 GiB).",
            "whole context (768 tokens)",
        ),
        ("ValueError: No available memory for the cache blocks. Try increasing", "not enough free memory"),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate", "memory ran out"),
        (
            "User-specified max_model_len (4096) is greater than the derived max_model_len "
            "(max_position_embeddings=768 or model_max_length=None in model's config.json)",
            "`max_context` = 4096 is more than the model's own context, 768 tokens",
        ),
        ("Loading lora a failed: No adapter found for /nowhere", "no LoRA adapter at /nowhere"),
        ("ValueError: LoRA rank 64 is greater than max_lora_rank 16.", "an adapter has rank 64"),
        ("ValueError: Invalid repository ID or local directory specified: '/nowhere'", "the model was not found"),
        ("ModuleNotFoundError: No module named 'bitsandbytes'", "lacks the package bitsandbytes"),
        ("PackageNotFoundError: No package metadata was found for vllm", "lacks the package vllm"),
        ("Please pass the argument `trust_remote_code=True` to allow custom code to be run.", "`--trust-remote-code`"),
        ("vllm: error: unrecognized arguments: --tea", "does not know the arguments --tea"),
        (
            "RuntimeError: steering: speculative decoding was not measured with it, and is refused",
            "speculative decoding",
        ),
    ],
)
def test_known_failures_come_with_a_remedy(log, words):
    assert words in explain(f"INFO begin\n{log}\nINFO end", 1)


def test_other_failures_show_the_end_of_the_log():
    log = "\n".join(f"line {n}" for n in range(100))
    assert remedy(log) is None
    assert remedy("Initializing a V1 LLM engine with config: trust_remote_code=False, dtype=torch.float32") is None
    # a warning of every start on a CPU
    assert (
        remedy(
            "Failed to import from vllm._deepselect_C: ModuleNotFoundError(\"No module named 'vllm._deepselect_C'\")"
        )
        is None
    )
    said = explain(log, 3)
    assert "status 3" in said
    assert "line 99" in said
    assert "line 5\n" not in said
    assert "killed" in explain(log, -9)
    assert "it still runs" in explain("", None)


SERVES = """
import http.server, subprocess
child = subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"])
print("child", child.pid, flush=True)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def do_POST(self):
        self.send_response(400); self.end_headers(); self.wfile.write(b'{"error": {"message": "no such vector"}}')
http.server.HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""


@pytest.mark.e2e
def test_a_server_is_started_asked_and_ended_with_its_children(tmp_path):
    import psutil

    python = fake_python(tmp_path, SERVES)
    with Server.start(python, ServeOptions("/m"), folder=tmp_path / "room", timeout=30) as server:
        with pytest.raises(ServerError, match="answered 400: no such vector") as refused:
            server.post("/v1/completions", {})
        assert refused.value.status == 400
        assert Server.attach(server.address).healthy()
        child = psutil.Process(int(server.log.read_text().split()[1]))
        with pytest.raises(ServerError, match="is taken"):
            Server.start(python, ServeOptions("/m"), folder=tmp_path / "other", port=int(server.address.split(":")[-1]))
        leader = server._process
        server.stop(grace=1)
    assert leader.poll() is not None
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    assert not server.healthy()


@pytest.mark.e2e
def test_a_server_that_ends_or_hangs_is_explained(tmp_path):
    python = fake_python(tmp_path, "print('Address already in use'); sys.exit(7)")
    with pytest.raises(ServerError, match="its port is taken.*status 7"):
        Server.start(python, ServeOptions("/m"), folder=tmp_path / "a", timeout=30)
    python = fake_python(tmp_path, "import time\nprint('busy', flush=True)\ntime.sleep(600)")
    with pytest.raises(ServerError, match=r"within 3 seconds(.|\n)*busy"):
        Server.start(python, ServeOptions("/m"), folder=tmp_path / "b", timeout=3)


def test_nothing_at_an_address_is_said():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(ServerError, match="nothing answers"):
        Server.attach(f"http://127.0.0.1:{port}", timeout=0.3)


def test_a_process_that_ended_and_that_nobody_waits_for_is_not_waited_for():
    child = subprocess.Popen([sys.executable, "-c", ""], start_new_session=True)
    end = time.monotonic() + 30
    while "Z" not in Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0]:
        assert time.monotonic() < end
        time.sleep(0.01)
    os.killpg(child.pid, 0)
    assert not _alive(child.pid)
    child.wait()
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True)
    assert _alive(other.pid)
    other.communicate(b"")
    assert not _alive(other.pid)
