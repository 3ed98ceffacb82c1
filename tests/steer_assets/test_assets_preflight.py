"""What a model's engine needs is looked for before a run: one message each, with what, where and what to do."""

import importlib.util
import socket

import pytest
import yaml

from steer_assets import preflight
from steer_assets.__main__ import main
from steer_assets.partitions import all_cells
from steer_assets.running import run_cells
from steer_assets.settings import registry
from steer_core.generation.remote import reach
from steer_core.tables.errors import ConfigError


@pytest.fixture
def nowhere():
    """An address at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/v1"


@pytest.fixture
def somewhere():
    """An address at which somebody does."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"


@pytest.fixture
def house(workplace, monkeypatch):
    """The small bench with models of its own, none of which was asked yet."""
    monkeypatch.chdir(workplace.folder)
    embedded = {"source": "embedded", "device": "cpu"}

    def configure(bench=(), **models):
        (workplace.folder / "models.yaml").write_text(yaml.safe_dump({"embedded": embedded, **models}))
        workplace.bench = {**workplace.bench, "methods": ["rewrite", "direct"], **dict(bench)}
        workplace.configure()
        found = registry().bench("small")
        return found, [c for c in all_cells(found) if c.method.name == "direct"]

    workplace.use = configure
    return workplace


def far(address, **endpoint):
    return {"source": "served:far-1", "engine": "openai", "endpoint": {"base_url": address, **endpoint}}


def said(bench, cells, reach=False):
    with pytest.raises(ConfigError) as error:
        preflight.check_bench(bench, cells, reach=reach)
    return str(error.value)


def test_a_key_that_is_not_set_is_said_by_the_plan_with_file_and_entry_and_no_value(
    house, somewhere, capsys, monkeypatch
):
    house.use({"models": ["far"]}, far=far(somewhere, key="FAR_KEY", headers={"X-Key": "env:FAR_HEADER"}))
    monkeypatch.setenv("FAR_HEADER", "h-secret")
    assert main(["plan", "direct", "--bench", "small"]) == 2
    shown = capsys.readouterr().err
    assert (
        f"{house.folder / 'models.yaml'}, entry 'far': `endpoint.key` names the environment variable FAR_KEY" in shown
    )
    assert "export it, and run again" in shown
    assert "FAR_HEADER" not in shown
    assert "h-secret" not in shown
    monkeypatch.setenv("FAR_KEY", "k-secret")
    assert main(["plan", "direct", "--bench", "small"]) == 0


def test_the_key_of_a_judge_is_looked_for_before_the_model_writes(house, somewhere, capsys):
    bench, cells = house.use({"models": ["embedded"], "validated_by": "judge"}, judge=far(somewhere, key="JUDGE_KEY"))
    assert "entry 'judge': `endpoint.key` names the environment variable JUDGE_KEY" in said(bench, cells)
    # from the page of an asset as well, where no command looked
    house.materialize("group:small_shared")
    _, result = house.materialize("group:small_cells", "direct|embedded", raise_on_error=False)
    failed = [e for e in result.all_events if e.is_step_failure]
    assert "JUDGE_KEY" in str(failed[0].event_specific_data.error)
    assert not house.table("responses", "direct|embedded").exists()


def test_a_missing_extra_is_said_with_what_installs_it(house, somewhere, monkeypatch):
    bench, cells = house.use({"models": ["far"]}, far=far(somewhere))
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "openai" else there(name, *a))
    assert "entry 'far': the engine `openai` needs its client: pip install 'steerworks[api]'" in said(bench, cells)


def test_a_tokenizer_that_is_not_there_is_said(house, somewhere):
    bench, cells = house.use({"models": ["far"]}, far=far(somewhere, tokenizer="./nowhere", scores="echo"))
    assert "entry 'far': `endpoint.tokenizer`: there is no nowhere" in said(bench, cells)


def test_a_missing_vllm_environment_is_said_with_what_makes_one(house):
    bench, cells = house.use(
        {"models": ["served"]},
        served={"source": "embedded", "device": "cpu", "engine": "vllm", "vllm": {"python": "/nowhere/bin/python"}},
    )
    found = said(bench, cells)
    assert "entry 'served': /nowhere/bin/python cannot be run" in found
    assert "make .venv-vllm/.installed" in found


@pytest.mark.parametrize("engine", ["openai", "vllm"])
def test_an_address_at_which_nobody_listens_is_said_when_a_run_starts_and_not_by_the_plan(
    house, nowhere, capsys, engine
):
    attached = {"source": "embedded", "device": "cpu", "engine": "vllm", "vllm": {"address": nowhere}}
    bench, cells = house.use({"models": ["far"]}, far=far(nowhere) if engine == "openai" else attached)
    assert main(["plan", "direct", "--bench", "small"]) == 0
    with pytest.raises(ConfigError, match=rf"entry 'far': nobody answers at {nowhere} \(.*refused\): start the server"):
        run_cells(bench, cells)


def test_a_model_that_answers_and_has_what_it_needs_is_nothing_to_say(house, somewhere):
    bench, cells = house.use({"models": ["far"]}, far=far(somewhere))
    preflight.check_bench(bench, cells, reach=True)


def test_what_is_up_to_date_needs_neither_key_nor_server(house, nowhere, monkeypatch):
    bench, cells = house.use({"models": ["far"]}, far=far(nowhere, key="FAR_KEY"))
    assert "FAR_KEY" in said(bench, cells, reach=True)
    monkeypatch.setattr(preflight, "node_is_current", lambda *_: True)
    preflight.check_bench(bench, cells, reach=True)
    preflight.check_engines(cells[0])


def test_an_address_behind_a_proxy_is_left_to_the_proxy(nowhere, monkeypatch):
    assert reach.nobody_at(nowhere) is not None
    monkeypatch.setattr(reach.urllib.request, "getproxies", lambda: {"http": "http://proxy:1"})
    monkeypatch.setattr(reach.urllib.request, "proxy_bypass", lambda host: False)
    assert reach.nobody_at(nowhere) is None
