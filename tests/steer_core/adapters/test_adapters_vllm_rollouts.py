"""trl's vLLM as the writer of completions, played by transformers: no CPU has it."""

import math
from typing import ClassVar

import pytest
import torch

from steer_core.adapters.recipe import train
from steer_core.adapters.recipes import grpo
from steer_core.adapters.run import RunFolder
from steer_core.adapters.vllm_rollouts import VllmRollouts
from steer_core.tables.errors import ConfigError, SteerworksError
from tests.steer_core.adapters.grpo_world import recipe, training


class Played:
    """What trl makes of vLLM, as far as a trainer asks it: weights that it was handed, and completions by them."""

    stale = False
    made: ClassVar[list] = []

    class vllm_client:
        get_server_info = staticmethod(lambda: {"model_config": {"logprobs_mode": "processed_logprobs"}})

    def __init__(self, *, model, temperature, max_completion_length, processing_class, **settings):
        self.model, self.temperature, self.most = model, temperature, max_completion_length
        self.end, self.settings = processing_class.eos_token_id, settings
        self.weights, self.synced = None, 0
        self.made.append(self)

    def sync_weights(self):
        self.synced += 1
        if self.weights is None or not self.stale:
            self.weights = {n: p.detach().clone() for n, p in self.model.named_parameters() if "lora_" in n}

    def generate(self, prompts, images, num_generations, profiler=None):
        assert images is None
        assert prompts[::num_generations] == prompts[num_generations - 1 :: num_generations]
        own = {n: p.detach().clone() for n, p in self.model.named_parameters() if n in self.weights}
        named = dict(self.model.named_parameters())
        with torch.no_grad():
            for name, weight in self.weights.items():
                named[name].copy_(weight)
            found = [self._written(p) for p in prompts]
            for name, weight in own.items():
                named[name].copy_(weight)
        return prompts, [t for t, _ in found], [[[v] for v in values] for _, values in found], None

    def _written(self, prompt):
        tokens, values = [], []
        while len(tokens) < self.most and self.end not in tokens:
            logits = self.model(torch.tensor([[*prompt, *tokens]])).logits[0, -1] / self.temperature
            log_probs = logits.log_softmax(-1)
            tokens.append(int(torch.multinomial(log_probs.exp(), 1)))
            values.append(float(log_probs[tokens[-1]]))
        return tokens, values


@pytest.fixture
def played(monkeypatch):
    refuse = grpo._refuse_vllm
    monkeypatch.setattr("trl.trainer.grpo_trainer.VLLMGeneration", Played)
    monkeypatch.setattr(grpo, "_refuse_vllm", lambda recipe, on_cpu: refuse(recipe, False))
    monkeypatch.setattr(Played, "made", [])
    torch.manual_seed(0)


VLLM = {"use_vllm": True, "vllm_mode": "server", "vllm_server_base_url": "http://127.0.0.1:9"}


def test_its_completions_are_rows_like_any_other_and_it_has_the_weights_of_every_step(tmp_path, played):
    states = train(recipe(steps=3, checkpoints=1, trl=VLLM), training(tmp_path / "run"))
    (vllm,) = Played.made
    assert (vllm.settings["mode"], vllm.settings["server_base_url"]) == ("server", VLLM["vllm_server_base_url"])
    assert list(states) == [3]
    assert vllm.synced == 3
    run = RunFolder(tmp_path / "run")
    samples = run.rows("samples")
    assert len(samples) == 3 * 2 * 4
    assert {s["state"] for s in samples} == {"kept"}
    assert {s["finish_reason"] for s in samples} <= {"stop", "length"}
    drift = [r["value"] for r in run.rows("log") if r["measure"] == "drift"]
    assert len(drift) == 3
    assert max(drift) < 1e-4


def test_weights_that_never_arrive_stop_the_run(tmp_path, played, monkeypatch):
    monkeypatch.setattr(Played, "stale", True)
    with pytest.raises(SteerworksError, match="what is trained is not what wrote the completions"):
        train(recipe(steps=6, learning_rate=0.05, trl=VLLM), training(tmp_path / "run"))


def test_log_probabilities_after_min_p_are_refused(tmp_path, played):
    with pytest.raises(ConfigError, match="set `min_p: 0`"):
        train(recipe(min_p=0.2, trl=VLLM), training(tmp_path / "run"))


@pytest.mark.parametrize(("tokens", "values"), [([], []), ([5, 6], [[-1.0]]), ([5], [[None]])])
def test_what_cannot_be_held_against_the_trainer_is_refused(tokens, values):
    class Trainer:
        class vllm_generation:
            generate = staticmethod(lambda prompts, images, group: (prompts, [tokens], [values], None))

    with pytest.raises(SteerworksError, match=f"request r0: vLLM gave {len(tokens)} tokens"):
        VllmRollouts({"r0": [1]}, str, {2}, 1).for_trainer(["r0"], Trainer)


def test_an_answer_ends_where_its_last_token_does():
    class Trainer:
        class vllm_generation:
            generate = staticmethod(
                lambda prompts, images, group: (prompts, [[5, 2], [5, 6]], [[[-0.5], [-1.5]], [[-1.0], [-2.0]]], None)
            )

    found = VllmRollouts({"r0": [1, 3]}, lambda tokens: f"{tokens}", {2}, 2).for_trainer(["r0", "r0"], Trainer)
    assert found["finish_reason"] == ["stop", "length"]
    assert found["raw"] == ["[5, 2]", "[5, 6]"]
    assert found["prompt_ids"] == [[1, 3], [1, 3]]
    assert math.isclose(sum(found["logprobs"][1]), -3.0)
