"""The sensor for what turns up: it has the locations loaded again, and launches what is new, where it belongs."""

import json
import shutil
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import dagster as dg
import pytest
import yaml

from steer_assets import settings
from steer_assets.arriving import arrivals_sensor, arrived_cells
from steer_assets.assets import nodes_of
from steer_assets.jobs import cell_job
from steer_core.tables.errors import SteerworksError

LOADED = {"data": {"reloadWorkspace": {"__typename": "Workspace", "locationEntries": []}}}
BROKEN = {"__typename": "PythonError", "message": "ConfigError: benches.yaml, bench 'small': unknown goal"}


@pytest.fixture
def webserver(monkeypatch):
    """What Dagster's webserver was asked, and what it says to that."""

    class Said(BaseHTTPRequestHandler):
        def do_POST(self):
            server.asked.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(server.answer).encode())

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Said)
    server.asked, server.answer = [], LOADED
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("STEERWORKS_WEBSERVER", f"http://127.0.0.1:{server.server_port}/")
    yield server
    server.shutdown()


@pytest.fixture
def watching(workplace, tiny_model):
    """A bench that watches, and nothing there yet."""
    for kind in ("models", "adapters"):
        (workplace.folder / kind).mkdir()
    workplace.bench |= {
        "methods": ["copy", "direct"],
        "watch": {"models": {"folder": "models"}, "adapters": {"folder": "adapters"}},
    }
    workplace.configure()
    # as a code location does when it is loaded
    settings.registry()
    return workplace


def tick():
    bench = settings.registry().bench("small")
    job = cell_job(bench, list(nodes_of(bench).all))
    with dg.instance_for_test() as instance:
        return arrivals_sensor(bench, job, "small_arrivals")(dg.build_sensor_context(instance=instance))


def adapter(folder, base):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(r=2, target_modules=["q_proj"]))
    model.save_pretrained(folder)


def test_a_bench_that_watches_nothing_has_no_such_sensor(workplace):
    from steer_assets.build import build_definitions

    names = [s.name for s in build_definitions(dg.in_process_executor, location="one").sensors]
    assert "small_missing_cells" in names
    assert "small_arrivals" not in names


def test_what_turned_up_is_loaded_and_then_launched_once(watching, webserver, tiny_model):
    assert tick().skip_message == "nothing new"
    shutil.copytree(tiny_model(), watching.folder / "models" / "tiny")
    assert tick().skip_message == "turned up: tiny. The code locations were loaded again"
    ((path, asked),) = webserver.asked
    assert path == "/graphql"
    assert "reloadWorkspace" in asked["query"]
    # which is another process, that reads its configuration
    settings.registry.cache_clear()
    requests = tick()
    assert [r.partition_key for r in requests] == ["copy|tiny", "direct|tiny"]
    assert len({r.run_key for r in requests}) == 2
    watching.materialize("group:small_shared")
    watching.materialize("group:small_cells", "copy|tiny")
    assert [r.partition_key for r in tick()] == ["direct|tiny"]
    assert len(webserver.asked) == 1
    # and away again
    shutil.rmtree(watching.folder / "models" / "tiny")
    assert tick().skip_message == "no longer there: tiny. The code locations were loaded again"


def test_an_adapter_is_run_on_its_base_beside_the_controls(watching, webserver, tiny_model):
    for name in ("one", "other"):
        shutil.copytree(tiny_model(), watching.folder / name)
    watching.bench["models"] = ["embedded", "one", "other"]
    models = {n: {"source": str(watching.folder / n)} for n in ("one", "other")}
    (watching.folder / "models.yaml").write_text(yaml.safe_dump({"embedded": {"source": "embedded"}, **models}))
    watching.bench["watch"] = {"adapters": {"folder": "adapters"}}
    (watching.folder / "benches.yaml").write_text(yaml.safe_dump({"small": watching.bench}))
    adapter(watching.folder / "adapters" / "cheer", str(watching.folder / "other"))
    settings.registry.cache_clear()
    bench = settings.registry().bench("small")
    assert [c.key for c in arrived_cells(bench)] == ["copy|other", "cheer|other"]
    # one that names a model that is nowhere is tried on all of them, and its runs say what is wrong
    file = watching.folder / "adapters" / "cheer" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": "org/elsewhere"}))
    assert {c.key for c in arrived_cells(bench) if c.method.name == "cheer"} >= {"cheer|one", "cheer|other"}


def test_without_the_webservers_address_a_person_is_told(watching, tiny_model, monkeypatch):
    monkeypatch.delenv("STEERWORKS_WEBSERVER", raising=False)
    (watching.folder / "models" / "half").mkdir()
    assert tick().skip_message.startswith("nothing new; not taken: ")
    assert tick().skip_message.endswith("models/half has no config.json (yet)")
    shutil.copytree(tiny_model(), watching.folder / "models" / "tiny")
    assert "turned up: tiny. Reload the code locations, or set STEERWORKS_WEBSERVER" in tick().skip_message


def test_a_configuration_that_is_broken_by_now_fails_the_tick_with_its_words(watching, webserver, tiny_model):
    shutil.copytree(tiny_model(), watching.folder / "models" / "tiny")
    entry = {"name": "gpu", "locationOrLoadError": BROKEN}
    webserver.answer = {"data": {"reloadWorkspace": {"__typename": "Workspace", "locationEntries": [entry]}}}
    with pytest.raises(SteerworksError, match="loading again failed: gpu: ConfigError: .* unknown goal"):
        tick()
    webserver.answer = {"errors": [{"message": "no such field"}]}
    with pytest.raises(SteerworksError, match="no such field"):
        tick()


def test_make_dev_tells_sensors_where_its_webserver_is():
    from steer_assets.dev import _port

    assert _port([]) == "3000"
    assert _port(["-p", "3123"]) == _port(["--port=3123", "--log-level", "info"]) == "3123"
