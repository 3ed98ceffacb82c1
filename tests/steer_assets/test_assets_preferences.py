"""Preference tuning as a cell: DPO on the model's own answers, tried, measured and told on a page; chance is its control."""

import polars as pl
import pytest

from schemas import Adapters, CheckpointTrials, TrainingLog, TrainingSamples
from steer_assets import compute
from steer_core.tables.snapshot import read_table

SHARED, GRID = "group:small_shared", "group:small_cells"
PREFERENCE = {
    "kind": "preference",
    "preset": "embedded",
    "loss": "dpo",
    "samples": 4,
    "max_new_tokens": 48,
    "objectives": [{"metric": "length", "direction": "min"}],
    "epochs": 2,
    "batch": 4,
    "checkpoints": 2,
    "lora": {"rank": 4},
}


@pytest.fixture
def place(workplace):
    yield workplace
    compute.let_go()


def test_dpo_is_trained_tried_and_measured_and_a_rerun_does_nothing(place):
    place.bench = {**place.bench, "methods": ["rewrite", "direct", "preferred"]}
    worn = {"kind": "adapter", "recipe": PREFERENCE, "trial_texts": 3}
    place.configure(methods={"preferred": {"parts": [{"kind": "prompt", "strategy": "direct"}, worn]}})
    place.materialize(SHARED)
    cell = "preferred|embedded"
    status, _ = place.materialize(GRID, cell)
    assert status["adapters"] == status["checkpoint_trials"] == status["report"] == "written"

    def read(name, contract):
        return read_table(str(place.table(name, cell)), contract)

    rows, log = read("adapters", Adapters), read("training_log", TrainingLog)
    assert rows.height == 2
    assert rows["step"].max() == log["step"].max()
    assert rows["norm"].min() > 0.0
    # what was drawn: of each request the shortest is preferred to the longest
    samples = read("training_samples", TrainingSamples)
    assert samples.group_by("request_id").len()["len"].unique().to_list() == [4]
    trials = read("checkpoint_trials", CheckpointTrials)
    assert set(trials["step"]) == {-1, *rows["step"]}
    # trl's own figures are kept: a loss that begins at log 2, where the adapter does nothing yet
    losses = log.filter(pl.col("measure") == "loss").sort("step")["value"]
    assert losses[0] == pytest.approx(0.6931, abs=0.05)
    page = place.table("report", cell).with_name("report.html").read_text()
    assert "Trained by preference (loss dpo): 4 steps" in page
    assert set(place.materialize(GRID, cell)[0].values()) == {"unchanged"}
