"""Adapters that several processes train: through Dagster Pipes, as one would, and what cannot be done."""

import shutil

import psutil
import pytest
import yaml

from schemas import TrainingLog, TrainingSamples
from schemas.specs import ModelSpec
from steer_assets import compute, settings
from steer_assets.partitions import all_cells
from steer_assets.preflight import check_bench
from steer_assets.settings import registry
from steer_core.adapters.ranks import ALONE
from steer_core.methods.parts._adapter_job import Job
from steer_core.tables.errors import ConfigError, SteerworksError
from tests.steer_assets.test_assets_adapters import PROMPT, RECIPE, read

CELL = "tuned|embedded"
ADAPTERS = 'key:"small/adapters"'
FEW = {**RECIPE, "steps": 2, "checkpoints": 2}


def configure(place, processes, recipe=FEW, prompt=PROMPT):
    models = yaml.safe_load((settings.SHIPPED_CONFIG / "models.yaml").read_text())
    embedded = {**models["embedded"], "training_processes": processes}
    (place.folder / "models.yaml").write_text(yaml.safe_dump({**models, "embedded": embedded}))
    adapter = {"kind": "adapter", "recipe": recipe, "trial_texts": 3}
    place.configure(methods={"tuned": {"parts": [prompt, adapter]}})


@pytest.fixture
def place(workplace):
    workplace.bench = {**workplace.bench, "methods": ["rewrite", "direct", "tuned"]}
    configure(workplace, 2)
    yield workplace
    compute.let_go()


def running(folder):
    """Processes that have a folder's job among their words."""
    found = psutil.process_iter(["cmdline"])
    return [p.pid for p in found if any(w.startswith(str(folder)) for w in p.info["cmdline"] or ())]


@pytest.mark.e2e
def test_several_processes_train_what_one_trains_and_tell_the_run_of_it(place):
    place.materialize("group:small_shared")
    status, result = place.materialize(ADAPTERS, CELL)
    assert status["adapters"] == "written"
    # figures are observations of the asset, lines are the run's
    events = [e for e in result.all_events if e.event_type_value == "ASSET_OBSERVATION"]
    observed = [e.asset_observation_data.asset_observation.metadata for e in events]
    assert [m["step"].value for m in observed] == [1, 2]
    assert all("reward" in m for m in observed)
    said = [e.user_message for e in place.instance.all_logs(result.run_id)]
    assert len([line for line in said if "[pipes] external process successfully opened" in line]) == 1
    runs = place.root / "small" / "training_runs"
    (folder,) = runs.iterdir()
    assert not running(folder)
    log = read(place, "training_log", TrainingLog)
    assert set(log["step"]) == {1, 2}
    assert log.filter(measure="drift")["value"].max() < 1e-4
    samples = read(place, "training_samples", TrainingSamples)
    assert samples.height == 2 * 2 * 4
    # how many trained is no part of what they trained, and one trains the same
    job = Job.model_validate_json((folder / "processes" / "job.json").read_text())
    configure(place, 1)
    assert place.materialize(ADAPTERS, CELL)[0]["adapters"] == "unchanged"
    shutil.rmtree(runs)
    place.table("training_log", CELL).unlink()
    assert place.materialize(ADAPTERS, CELL)[0]["adapters"] == "written"
    assert read(place, "training_samples", TrainingSamples).equals(samples)
    # processes that would train something else say so
    with pytest.raises(SteerworksError, match="something else .*: the recipe's code, or the model differs"):
        job.model_copy(update={"data": "other"}).training(ALONE)
    with pytest.raises(SteerworksError, match="what the ruler measures differs"):
        job.model_copy(update={"proofs": {"A text.": dict.fromkeys(job.goals, 0.5)}}).training(ALONE)


def test_what_cannot_be_shared_is_said_by_the_plan(place):
    bench = registry().bench("small")
    check_bench(bench, all_cells(bench))
    labels = {"kind": "prompt", "strategy": "labels", "options": {"wording": "words"}}
    for recipe, prompt, wrong in (
        ({**FEW, "prompts_per_step": 3, "completions": 3}, PROMPT, "makes 9 rows of a step, which 2 processes cannot"),
        ({"kind": "steerlm", "preset": "embedded"}, labels, "recipe 'steerlm' trains in one process"),
    ):
        configure(place, 2, recipe, prompt)
        bench = registry().bench("small")
        with pytest.raises(ConfigError, match=wrong):
            check_bench(bench, all_cells(bench))
        configure(place, 1, recipe, prompt)
    with pytest.raises(ValueError, match="take a GPU each, and device 'cuda:1' is one"):
        ModelSpec(name="one", source="embedded", device="cuda:1", training_processes=2)
    one, two = (ModelSpec(name="one", source="embedded", training_processes=n) for n in (1, 2))
    assert one.identity == two.identity
