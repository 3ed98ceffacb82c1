"""GRPO on the goal space: it learns, it is taken up after a kill as if nothing had been, and nothing is silent."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from schemas.specs import ModelSpec
from steer_core.adapters.recipe import train
from steer_core.adapters.run import RunFolder
from steer_core.tables.errors import ConfigError, SteerworksError
from tests.steer_core.adapters.grpo_world import recipe, training

ROOT = Path(__file__).parents[3]


def weights(folder):
    return load_file(folder / "adapter_model.safetensors")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    return folder, train(recipe(), training(folder))


def test_every_step_is_written_down_and_agrees_with_the_sampler(whole):
    folder, states = whole
    run = RunFolder(folder)
    assert sorted(states) == [3, 6]
    log = {(r["step"], r["measure"]): r["value"] for r in run.rows("log")}
    measures = {m for _, m in log}
    assert all(log[s, "seconds"] > 0 for s in range(1, 7))
    assert {"loss", "reward", "kl", "learning_rate", "drift", "zero_spread", "meaning", "copied"} <= measures
    assert all((s, m) in log for s in range(1, 7) for m in measures)
    assert max(log[s, "drift"] for s in range(1, 7)) < 1e-4
    samples = run.rows("samples")
    assert len(samples) == 6 * 2 * 4
    for step in range(1, 7):
        own = [s for s in samples if s["step"] == step]
        rewards = np.array([s["reward"] for s in own]).reshape(2, 4)
        # advantages are rewards less those of the group, and the mean reward is what the trainer logs
        wanted = rewards - rewards.mean(axis=1, keepdims=True)
        assert np.array([s["advantage"] for s in own]).reshape(2, 4) == pytest.approx(wanted, abs=1e-5)
        assert log[step, "reward"] == pytest.approx(rewards.mean(), abs=1e-5)
    z = {(m["step"], m["sample"]): m["value"] for m in run.rows("measures") if m["measure"] == "z:length"}
    assert all(s["reward"] == pytest.approx(-(1 - z[s["step"], s["sample"]])) for s in samples)


def test_after_a_kill_it_goes_on_to_the_same_weights_and_the_curve_has_no_gap(whole, tmp_path):
    folder, states = whole
    target = tmp_path / "run"
    killed = subprocess.run(
        [sys.executable, "-m", "tests.steer_core.adapters.grpo_world", str(target), "4"], cwd=ROOT, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert max(RunFolder(target).checkpoints()) == 3
    said = []
    again = train(recipe(), training(target, say=said.append))
    assert "training goes on after step 3 of 6" in said
    for name, tensor in weights(states[6]).items():
        assert (weights(again[6])[name] - tensor).abs().max() <= 1e-6
    moved = max((weights(states[6])[n] - weights(states[3])[n]).abs().max() for n in weights(states[6]))
    assert moved > 1e-4
    for name in ("log", "samples"):
        one, other = RunFolder(folder).rows(name), RunFolder(target).rows(name)
        assert [(r["step"], r.get("measure"), r.get("text")) for r in one] == [
            (r["step"], r.get("measure"), r.get("text")) for r in other
        ]
    # a finished run is not begun again
    assert train(recipe(), training(target, load=lambda: pytest.fail("nothing is left to do"))) == again


def test_more_may_be_drawn_than_are_trained_on(tmp_path):
    train(recipe(steps=2, checkpoints=1, drawn=6, completions=2), training(tmp_path / "run"))
    samples = RunFolder(tmp_path / "run").rows("samples")
    assert len(samples) == 2 * 2 * 6
    for group in range(4):
        own = samples[group * 6 : group * 6 + 6]
        kept = [s for s in own if s["state"] == "kept"]
        rewards = sorted(s["reward"] for s in own)
        assert sorted(s["reward"] for s in kept) == [rewards[0], rewards[-1]]
        assert all((s["advantage"] is None) == (s["state"] == "dropped") for s in own)


def test_a_trainer_that_disagrees_with_the_sampler_is_stopped(tmp_path):
    with pytest.raises(SteerworksError, match="step 1: sampled and trained log-probabilities differ by"):
        train(recipe(most_drift=1e-12), training(tmp_path / "run"))


def test_groups_without_a_difference_end_the_run_and_what_has_no_reward_moves_nothing(tmp_path):
    flat = lambda texts: [{"length": 0.5} for _ in texts]  # noqa: E731
    with pytest.raises(SteerworksError, match="step 3: for 3 steps all completions of every request had one reward"):
        train(recipe(), training(tmp_path / "flat", ruler=flat))
    samples = RunFolder(tmp_path / "flat").rows("samples")
    assert {s["advantage"] for s in samples} == {0.0}
    nowhere = lambda texts: [{"length": None} for _ in texts]  # noqa: E731
    with pytest.raises(SteerworksError, match="had one reward, or none"):
        train(recipe(failures="left_out"), training(tmp_path / "none", ruler=nowhere))
    samples = RunFolder(tmp_path / "none").rows("samples")
    assert {(s["state"], s["reward"], s["advantage"]) for s in samples} == {("unscorable", None, None)}


def test_too_few_requests_and_prompts_without_room_are_said(tmp_path):
    with pytest.raises(ConfigError, match="4 requests can be trained on, and a step takes 8"):
        train(recipe(prompts_per_step=8), training(tmp_path / "run"))
    said = []
    with pytest.raises(ConfigError, match="0 requests can be trained on"):
        train(recipe(max_new_tokens=600), training(tmp_path / "long", say=said.append))
    assert said == ["4 of 4 prompts are left out: they leave no room for an answer"]
    with pytest.raises(ConfigError, match="trl refuses its settings"):
        train(recipe(trl={"magic": 1}), training(tmp_path / "trl"))
    with pytest.raises(ConfigError, match="leave `use_vllm` out on a CPU"):
        train(recipe(trl={"use_vllm": True}), training(tmp_path / "vllm"))
    with pytest.raises(ConfigError, match="cannot be cut into"):
        train(recipe(trl={"gradient_accumulation_steps": 3}), training(tmp_path / "parts"))


def test_parts_of_a_step_give_the_weights_of_the_whole_step(tmp_path):
    found = [
        train(
            recipe(steps=2, checkpoints=1, trl={"gradient_accumulation_steps": parts}), training(tmp_path / str(parts))
        )[2]
        for parts in (1, 2)
    ]
    one, two = map(weights, found)
    assert max((one[n] - two[n]).abs().max() for n in one) < 1e-3
    samples = [[r["text"] for r in RunFolder(tmp_path / str(p)).rows("samples")][:8] for p in (1, 2)]
    assert samples[0] == samples[1]


def test_a_model_that_counts_padding_as_positions_is_not_trained_in_silence(tmp_path, tiny_model):
    """Learned positions: the trainer pads prompts on the left and tells nothing of it; the sampler does."""
    spec = ModelSpec(name="tiny", source=str(tiny_model("gpt2", True)))
    asked = training(tmp_path / "run", spec)
    with pytest.raises(SteerworksError, match="differ by"):
        train(recipe(most_drift=1e-4), asked)
