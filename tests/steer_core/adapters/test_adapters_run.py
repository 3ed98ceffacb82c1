"""Runs in folders: what a kill leaves, what is kept, and states that are read back."""

import json

import pytest
import torch
from safetensors.torch import save_file

from steer_core.adapters.run import RunFolder, kept_steps
from steer_core.adapters.states import keep_state, states_in, step_of
from steer_core.tables.errors import ConfigError, SteerworksError

SETTINGS = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["v_proj", "q_proj"]}


def adapter(folder, scale=1.0, **settings):
    folder.mkdir(parents=True)
    text = json.dumps({**SETTINGS, "base_model_name_or_path": "/home/somebody/model", **settings})
    (folder / "adapter_config.json").write_text(text)
    save_file(
        {"base_model.model.q_proj.lora_A.weight": torch.full((2, 3), scale)}, folder / "adapter_model.safetensors"
    )
    return folder


def test_states_are_evenly_spaced_and_the_last_is_kept():
    assert kept_steps(100, 4) == (25, 50, 75, 100)
    assert kept_steps(10, 3) == (3, 7, 10)
    assert kept_steps(2, 6) == (1, 2)


def test_what_a_kill_left_is_cut_back_to_the_last_whole_checkpoint(tmp_path):
    run = RunFolder(tmp_path / "run")
    assert run.begin() == 0
    for step in (1, 2, 3, 4):
        run.append("log", [{"step": step, "measure": "loss", "value": step / 10}])
        (run.path / f"checkpoint-{step}").mkdir()
        if step < 4:
            run.whole(step, kept=(2, 4))
    # of those that are not kept the last one stays, to go on from
    assert list(run.checkpoints()) == [2, 3]
    with (run.path / "log.jsonl").open("a") as file:
        file.write('{"step": 5, "meas')
    assert run.begin() == 3
    assert [row["step"] for row in run.rows("log")] == [1, 2, 3]
    assert not (run.path / "checkpoint-4").exists()
    run.append("log", [{"step": 4, "measure": "loss", "value": float("nan")}])
    assert run.rows("log")[-1]["value"] is None
    (run.path / "log.jsonl").write_text('{"step": 1}\n{"ste\n{"step": 3}\n')
    with pytest.raises(SteerworksError, match="line 2 is damaged"):
        run.rows("log")


def test_a_state_that_is_kept_names_no_folder_of_this_machine_and_is_the_same_in_every_run(tmp_path):
    first = adapter(tmp_path / "one" / "checkpoint-3")
    second = adapter(tmp_path / "two" / "checkpoint-3", target_modules=["q_proj", "v_proj"])
    (first / "optimizer.pt").write_bytes(b"pickle")
    for source, name in ((first, "a"), (second, "b")):
        keep_state(source, tmp_path / "kept" / name / "step-3", "embedded")
    a, b = (states_in(tmp_path / "kept" / name / "step-3")[0] for name in "ab")
    assert a.adapter.digest == b.adapter.digest
    assert (a.step, a.rank, a.parameters) == (3, 2, 6)
    assert a.norm == pytest.approx(6**0.5)
    assert sorted(p.name for p in a.adapter.folder.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    assert "somebody" not in (a.adapter.folder / "adapter_config.json").read_text()


def test_folders_of_states_are_read_in_the_order_of_their_steps(tmp_path):
    for step in (100, 20, 3):
        adapter(tmp_path / "run" / f"checkpoint-{step}", scale=step)
    assert [s.step for s in states_in(tmp_path / "run")] == [3, 20, 100]
    assert [step_of(n) for n in ("checkpoint-12", "step_7", "global_step9", "final")] == [12, 7, 9, None]
    one = adapter(tmp_path / "single" / "final")
    assert [(s.step, s.label) for s in states_in(one)] == [(0, "final")]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: None, "is no folder"),
        (lambda p: p.mkdir(), "holds no adapter"),
        (lambda p: (adapter(p / "checkpoint-1"), adapter(p / "final")), "'final' says no step"),
        (lambda p: (adapter(p / "checkpoint-1"), adapter(p / "step-1")), "two adapters of step 1"),
        (lambda p: adapter(p / "checkpoint-1", scale=float("nan")), "not finite"),
        (lambda p: adapter(p / "checkpoint-1", peft_type="IA3"), "is of type IA3"),
    ],
)
def test_what_is_no_adapter_is_said(tmp_path, make, said):
    make(tmp_path / "x")
    with pytest.raises(ConfigError, match=said):
        states_in(tmp_path / "x")


def test_damaged_weights_and_pickles_are_refused(tmp_path):
    damaged = adapter(tmp_path / "damaged")
    (damaged / "adapter_model.safetensors").write_bytes(b"xx")
    with pytest.raises(ConfigError, match="cannot be read"):
        states_in(damaged)
    pickled = adapter(tmp_path / "pickled")
    (pickled / "adapter_model.safetensors").rename(pickled / "adapter_model.bin")
    with pytest.raises(ConfigError, match="pickled weights are not read"):
        states_in(pickled)
