"""Preference tuning: losses are their formulas and trl's own, pairs are the best and the worst, a kill leaves no trace."""

import json
import math
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from steer_core.adapters.preferences import PairRow, laid_out, trainer_of
from steer_core.adapters.recipe import train
from steer_core.adapters.run import RunFolder
from steer_core.models import load_model
from steer_core.tables.errors import ConfigError
from tests.steer_core.adapters.grpo_world import SPEC, training
from tests.steer_core.adapters.preference_world import recipe

ROOT = Path(__file__).parents[3]
TEXTS = [
    ("Write about the gardener and the lamp.", "The gardener found a wonderful lamp.", "The gardener lost the lamp. Oh, no."),
    ("Write about the baker.", "The baker smiled at us gladly.", "The baker left."),
    ("Tell me about the sailor and the boat.", "It was a nice boat.", "It was a nasty old boat, and it sank."),
]  # fmt: skip


def rows_of(tokenizer):
    end = tokenizer.eos_token_id
    rows = []
    for asked, *answers in TEXTS:
        turns = [{"role": "user", "content": asked}]
        prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True)["input_ids"]
        sides = [(*tokenizer(a, add_special_tokens=False)["input_ids"], end) for a in answers]
        rows.append(PairRow(tuple(prompt), *sides))
    return rows


def trained_a_little(trainer):
    """The adapter moved away from nothing, the same in every trainer."""
    torch.manual_seed(3)
    with torch.no_grad():
        for name, parameter in sorted(trainer.model.named_parameters()):
            if "lora_B" in name:
                parameter.normal_(0.0, 0.05)
    trainer.model.eval()
    return trainer


def log_probs(trainer, rows, *, adapter=True):
    """Summed log-probabilities of chosen and rejected answers in passes of one row each, [pairs, 2]."""
    found = []
    context = torch.no_grad() if adapter else trainer.model.disable_adapter()
    with context, torch.no_grad():
        for row in rows:
            sides = []
            for answer in (row.chosen, row.rejected):
                logits = trainer.model(torch.tensor([[*row.prompt, *answer]])).logits[0].double().log_softmax(-1)
                start = len(row.prompt) - 1
                sides.append(sum(float(logits[start + k, t]) for k, t in enumerate(answer)))
            found.append(sides)
    return np.array(found)


def loss_of(trainer):
    (batch,) = list(trainer.get_train_dataloader())
    with torch.no_grad():
        return float(trainer.compute_loss(trainer.model, batch))


def made(loss, folder, **more):
    loaded = load_model(SPEC)
    rows = rows_of(loaded.tokenizer)
    own = recipe(loss=loss, batch=3, beta=0.3, **more)
    return trained_a_little(trainer_of(own, rows, folder, 1, loaded)), rows


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_dpo_is_its_formula_and_what_trl_makes_of_the_same_texts(tmp_path):
    trainer, rows = made("dpo", tmp_path / "own")
    ratio = log_probs(trainer, rows) - log_probs(trainer, rows, adapter=False)
    expected = -np.log(sigmoid(0.3 * (ratio[:, 0] - ratio[:, 1])))
    assert loss_of(trainer) == pytest.approx(expected.mean(), rel=1e-5)
    assert abs(expected.mean() - math.log(2)) > 0.01

    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    loaded = load_model(SPEC)
    from steer_core.adapters.lora import lora_config

    texts = [
        {
            "prompt": loaded.tokenizer.decode(r.prompt),
            "chosen": chosen,
            "rejected": rejected,
        }
        for r, (_, chosen, rejected) in zip(rows, TEXTS, strict=True)
    ]
    stock = DPOTrainer(
        model=loaded.model,
        args=DPOConfig(
            output_dir=str(tmp_path / "stock"), beta=0.3, per_device_train_batch_size=3, report_to="none",
            use_cpu=True, bf16=False, max_length=None, gradient_checkpointing=False, seed=0,
        ),
        train_dataset=Dataset.from_list(texts),
        processing_class=loaded.tokenizer,
        peft_config=lora_config(recipe().lora, loaded.model),
    )  # fmt: skip
    assert loss_of(trained_a_little(stock)) == pytest.approx(loss_of(trainer), rel=1e-6)


def test_ipo_and_orpo_are_their_formulas(tmp_path):
    trainer, rows = made("ipo", tmp_path / "ipo")
    tokens = np.array([[len(r.chosen), len(r.rejected)] for r in rows])
    ratio = (log_probs(trainer, rows) - log_probs(trainer, rows, adapter=False)) / tokens
    assert loss_of(trainer) == pytest.approx(np.mean((ratio[:, 0] - ratio[:, 1] - 1 / 0.6) ** 2), rel=1e-5)

    trainer, rows = made("orpo", tmp_path / "orpo")
    each = log_probs(trainer, rows) / tokens
    odds = each - np.log1p(-np.exp(each))
    # as trl has it, the likelihood is over prompt and answer
    summed = n = 0.0
    with torch.no_grad():
        for row in rows:
            ids = torch.tensor([[*row.prompt, *row.chosen]])
            logits = trainer.model(ids).logits[0, :-1].double().log_softmax(-1)
            summed -= float(logits.gather(1, ids[0, 1:, None]).sum())
            n += ids.shape[1] - 1
    expected = summed / n - np.mean(0.3 * np.log(sigmoid(odds[:, 0] - odds[:, 1])))
    assert loss_of(trainer) == pytest.approx(expected, rel=1e-4)


def test_kto_holds_each_prompt_against_the_answer_to_another(tmp_path):
    trainer, rows = made("kto", tmp_path / "kto")
    laid = laid_out(rows, "kto", 3)
    assert [r["label"] for r in laid] == [True] * 3 + [False] * 3
    for row in laid:
        own = [a for r in rows if [*r.prompt] == row["prompt_ids"] for a in (r.chosen, r.rejected)]
        assert tuple(row["completion_ids"]) in own
        assert tuple(row["KL_completion_ids"]) not in own
    ratio = log_probs(trainer, rows) - log_probs(trainer, rows, adapter=False)
    others = [PairRow(tuple(r["prompt_ids"]), tuple(r["KL_completion_ids"]), (1,)) for r in laid]
    mismatched = log_probs(trainer, others)[:, 0] - log_probs(trainer, others, adapter=False)[:, 0]
    kl = max(mismatched.mean(), 0.0)
    losses = [*(1 - sigmoid(0.3 * (ratio[:, 0] - kl))), *(1 - sigmoid(0.3 * (kl - ratio[:, 1])))]
    assert loss_of(trainer) == pytest.approx(np.mean(losses), rel=1e-5)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    said = []
    return folder, train(recipe(), training(folder, say=said.append)), said


def test_the_best_and_the_worst_of_each_request_are_a_pair(whole):
    folder, states, said = whole
    run = RunFolder(folder)
    assert "4 of 4 requests have a better and a worse answer" in said
    assert sorted(states) == [3, 6]
    samples = run.rows("samples")
    for request in {s["request_id"] for s in samples}:
        own = [s for s in samples if s["request_id"] == request]
        rewards = [s["reward"] for s in own]
        sides = {s["advantage"]: s["reward"] for s in own if s["state"] == "kept"}
        assert sides == {1.0: max(rewards), -1.0: min(rewards)}
    log = {(r["step"], r["measure"]): r["value"] for r in run.rows("log")}
    assert log[1, "loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert log[6, "preference_margin"] > 0.05
    assert log[6, "loss"] < log[1, "loss"]
    assert log[1, "selection:pairs"] == 4


def test_after_a_kill_it_goes_on_to_the_same_weights(whole, tmp_path):
    _, states, _ = whole
    killed = subprocess.run(
        [sys.executable, "-m", "tests.steer_core.adapters.preference_world", str(tmp_path / "run"), "4"],
        cwd=ROOT, check=False,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL
    said = []
    again = train(recipe(), training(tmp_path / "run", say=said.append))
    assert "training goes on after step 3 of 6" in said
    one, other = (load_file(f / "adapter_model.safetensors") for f in (states[6], again[6]))
    assert max(float((one[n] - other[n]).abs().max()) for n in one) <= 1e-6
    assert train(recipe(), training(tmp_path / "run", load=lambda: pytest.fail("nothing is left to do"))) == again


@pytest.mark.parametrize("loss", ["ipo", "kto", "orpo"])
def test_the_other_losses_train_as_well(loss, tmp_path):
    found = train(recipe(loss=loss, epochs=2), training(tmp_path / "run"))
    log = {(r["step"], r["measure"]): r["value"] for r in RunFolder(tmp_path / "run").rows("log")}
    assert max(found) == 4
    assert all(math.isfinite(log[s, "loss"]) for s in range(1, 5))
    assert any(
        float(t.abs().max()) > 0 for n, t in load_file(found[4] / "adapter_model.safetensors").items() if "lora_B" in n
    )


def test_chance_makes_other_pairs_of_the_same_answers(whole, tmp_path):
    folder, _, _ = whole
    train(recipe(select="random", epochs=1, checkpoints=1), training(tmp_path / "run"))
    best, control = (RunFolder(f).rows("samples") for f in (folder, tmp_path / "run"))
    assert [s["raw"] for s in best] == [s["raw"] for s in control]
    assert [s["advantage"] for s in best] != [s["advantage"] for s in control]
    for request in {s["request_id"] for s in control}:
        sides = [s["advantage"] for s in control if s["request_id"] == request and s["advantage"] is not None]
        assert sorted(sides) == [-1.0, 1.0]


def test_pairs_of_a_file_are_trained_on_but_not_those_that_test(tmp_path):
    file = tmp_path / "pairs.jsonl"
    splits = ["train", "train", "train", "test"]
    lines = [
        {"prompt": f"Write about {what}.", "positive": f"The {what} was good.", "negative": f"The {what} was bad.", "split": s}
        for what, s in zip(("tea", "milk", "bread", "soup"), splits, strict=True)
    ]  # fmt: skip
    file.write_text("\n".join(map(json.dumps, lines)))
    said = []
    asked = training(tmp_path / "run", say=said.append)
    states = train(recipe(pairs={"path": str(file)}, epochs=2), asked)
    assert said[0] == "3 pairs of pairs.jsonl are trained on"
    assert max(states) == 3
    assert not RunFolder(tmp_path / "run").rows("candidates")


def test_kto_never_holds_a_prompt_against_its_own_answers():
    rows = [
        PairRow((1,), (2, 9), (3, 9)),
        PairRow((1,), (4, 9), (5, 9)),
        PairRow((6,), (7, 9), (8, 9)),
        PairRow((6,), (2, 9), (7, 9)),
    ]
    laid = laid_out(rows, "kto", 2)
    for row in laid:
        theirs = {a for r in rows if [*r.prompt] != row["prompt_ids"] for a in (r.chosen, r.rejected)}
        assert tuple(row["KL_completion_ids"]) in theirs
    # an answer that does not fit behind a prompt is not taken
    long = [PairRow((1,) * 4, (2,), (3,)), PairRow((6,), (7,) * 5, (8,))]
    assert laid_out(long, "kto", 2, room=6)[0]["KL_completion_ids"] == [8]
    with pytest.raises(ConfigError, match="give two prompts or more"):
        laid_out(rows[:2], "kto", 2)


def test_the_processes_that_train_know_the_recipe():
    code = (
        "from steer_core.methods.parts import _adapter_job; from schemas.adapter_part import Recipe; "
        "print(sorted(Recipe.KINDS))"
    )
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "'preference'" in said
    assert "'steerlm'" in said


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"samples": 1}, "samples = 1 leaves nothing to choose from"),
        ({"samples": 1, "select": "random"}, "samples = 1 makes no pair"),
        ({"loss": "kto", "batch": 1}, "`batch` is at least 2"),
        ({"pairs": {"path": "pairs.jsonl"}}, "the path of `pairs`, 'pairs.jsonl', is relative"),
        ({"pairs": {"path": "/pairs.jsonl"}, "models": ["a", "b"]}, "leave `prompts` and `models` out"),
        ({"trl": {"loss_type": "hinge"}}, "`trl` may not set loss_type"),
        ({"loss": "simpo"}, "Input should be"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, said):
    with pytest.raises(ValidationError, match=said):
        recipe(**settings)


def test_what_cannot_be_trained_on_is_said(tmp_path):
    with pytest.raises(ConfigError, match="trl refuses its settings"):
        train(recipe(trl={"magic": 1}), training(tmp_path / "trl"))
    assert recipe(pairs={"path": "/pairs.jsonl"}, samples=1).draws_answers() is False
    with pytest.raises(ConfigError, match="trl refuses to train so: .*lm_head"):
        train(recipe(lora={"rank": 4, "modules": ["lm_head"]}), training(tmp_path / "head"))
    with pytest.raises(
        ConfigError, match="cannot be cut into gradient_accumulation_steps = 2 equal parts of two pairs"
    ):
        train(recipe(loss="kto", trl={"gradient_accumulation_steps": 2}), training(tmp_path / "parts"))
