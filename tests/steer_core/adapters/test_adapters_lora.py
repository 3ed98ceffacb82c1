"""`rank: full`: the steps of full fine-tuning of the linear layers, as an adapter."""

import pytest
import torch
from safetensors.torch import load_file

from schemas.adapter_part import LoraSpec
from steer_core.adapters.lora import lora_config
from steer_core.adapters.run import RunFolder
from steer_core.adapters.sft import Row, fine_tune
from steer_core.generation.adapters import Adapter
from steer_core.models import load_model
from tests.steer_core.adapters.grpo_world import SPEC, training
from tests.steer_core.adapters.inheritance_world import recipe

ROWS = [Row((1, 5, 6, 7), (8, 9, 10, 2)), Row((1, 11), (12, 13, 2)), Row((1, 20, 21), (22, 2))]
RECIPE = recipe(
    epochs=4, batch=3, checkpoints=2, learning_rate=1e-3, schedule="constant", grad_norm=0.5, lora={"rank": "full"}
)


def tuned(folder, **more):
    own = training(folder, **more)
    own.run.begin()
    return fine_tune(RECIPE, ROWS, own, own.load(), {})


def plainly_tuned(steps):
    """The linear layers of the model below its head, after steps of AdamW on all rows."""
    model = load_model(SPEC).model.requires_grad_(False)
    layers = {n: m for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and n != "lm_head"}
    before = {n: m.weight.detach().clone() for n, m in layers.items()}
    weights = [m.weight.requires_grad_(True) for m in layers.values()]
    optimizer = torch.optim.AdamW(weights, lr=RECIPE.learning_rate, betas=RECIPE.betas, weight_decay=0.0)
    for _ in range(steps):
        losses = []
        for row in ROWS:
            ids = torch.tensor([[*row.prompt, *row.completion]])
            predicted = model(ids).logits[0, len(row.prompt) - 1 : -1]
            losses.append(torch.nn.functional.cross_entropy(predicted, ids[0, len(row.prompt) :], reduction="sum"))
        (sum(losses) / sum(len(r.completion) for r in ROWS)).backward()
        torch.nn.utils.clip_grad_norm_(weights, RECIPE.grad_norm)
        optimizer.step()
        optimizer.zero_grad()
    return {n: m.weight.detach() - before[n] for n, m in layers.items()}


def test_b_is_what_full_fine_tuning_adds_and_a_is_the_identity_even_after_a_kill(tmp_path):
    whole = tuned(tmp_path / "whole")[4]
    weights, moved = load_file(whole / "adapter_model.safetensors"), plainly_tuned(4)
    assert len(weights) == 2 * len(moved)
    for name, change in moved.items():
        a, b = (weights[f"base_model.model.{name}.lora_{side}.weight"] for side in "AB")
        assert torch.equal(a, torch.eye(change.shape[1]))
        assert torch.allclose(b, change, atol=2e-5)
        assert float(change.abs().max()) > 1e-3

    def stop(step, figures):
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tuned(tmp_path / "killed", observe=stop)
    assert max(RunFolder(tmp_path / "killed").checkpoints()) == 2
    again = load_file(tuned(tmp_path / "killed")[4] / "adapter_model.safetensors")
    assert max(float((again[n] - weights[n]).abs().max()) for n in weights) <= 1e-6
    # rows can wear it
    assert Adapter.of(whole).digest


def test_layers_of_other_widths_have_other_ranks_and_all_have_the_scale_one():
    model = load_model(SPEC).model
    found = lora_config(LoraSpec(rank="full"), model)
    widths = {m.in_features for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and n != "lm_head"}
    assert {found.r, *found.rank_pattern.values()} == widths
    assert len(widths) == 2
    assert (found.lora_alpha, found.alpha_pattern) == (found.r, found.rank_pattern)
    with pytest.raises(ValueError, match="leave `rank_stabilized` out"):
        LoraSpec(rank="full", rank_stabilized=True)
