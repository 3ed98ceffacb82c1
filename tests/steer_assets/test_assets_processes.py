"""Adapters that several processes train: killed outright, taken up through Dagster Pipes, and what cannot be done."""

import os
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
import yaml

from schemas import Adapters, TrainingLog, TrainingSamples
from steer_assets import compute, settings
from steer_assets.partitions import all_cells
from steer_assets.preflight import check_bench
from steer_assets.settings import registry
from steer_core.adapters.run import RunFolder
from steer_core.tables.errors import ConfigError
from steer_core.tables.snapshot import read_table
from tests.steer_assets.test_assets_adapters import PROMPT, RECIPE

ROOT, CELL = Path(__file__).parents[2], "tuned|embedded"
FEW = {**RECIPE, "steps": 3, "checkpoints": 3, "max_new_tokens": 16}


def configure(place, processes, recipe=FEW):
    models = yaml.safe_load((settings.SHIPPED_CONFIG / "models.yaml").read_text())
    embedded = {**models["embedded"], "training_processes": processes}
    (place.folder / "models.yaml").write_text(yaml.safe_dump({**models, "embedded": embedded}))
    adapter = {"kind": "adapter", "recipe": recipe, "trial_texts": 3}
    place.configure(methods={"tuned": {"parts": [PROMPT, adapter]}})


@pytest.fixture
def place(workplace):
    workplace.bench = {**workplace.bench, "methods": ["rewrite", "direct", "tuned"]}
    configure(workplace, 2)
    yield workplace
    compute.let_go()


def begun(place):
    """Start to train as a plain call of the library, in another process."""
    # the lease on the CPU lies where this test has it
    environment = {**os.environ, "TMPDIR": str(place.folder)}
    command = [sys.executable, "-m", "tests.steer_assets.processes_world", CELL]
    return subprocess.Popen(command, cwd=ROOT, env=environment)


def until(what, seconds=120):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


def running(folder):
    """Processes that have a folder's job among their words."""
    found = []
    for process in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{process}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
        except OSError:
            continue
        if any(word.startswith(str(folder).encode()) for word in words):
            found.append(int(process))
    return found


@pytest.mark.e2e
def test_several_processes_train_what_one_trains_and_go_on_after_a_kill(place):
    place.materialize("group:small_shared")
    child = begun(place)
    runs = place.root / "small" / "training_runs"
    until(lambda: child.poll() is not None or [f for f in runs.glob("*/checkpoint-1/whole")])
    (folder,) = runs.iterdir()
    assert len(running(folder)) == 3  # the launcher and two processes
    child.kill()
    child.wait()
    until(lambda: not running(folder), 10)
    done = max(RunFolder(folder).checkpoints())
    assert done < 3
    # it is taken up through Dagster
    status, result = place.materialize('key:"small/adapters"', CELL)
    assert status["adapters"] == "written"
    seen = [e.asset_observation_data.asset_observation for e in result.all_events if e.event_type_value == "ASSET_OBSERVATION"]
    assert [int(o.metadata["step"].value) for o in seen] == list(range(done + 1, 4))
    print(result.get_asset_materialization_events())
