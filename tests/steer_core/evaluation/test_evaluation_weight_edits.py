import numpy as np
import polars as pl
import pytest
import torch

import steer_core as steer
from steer_core.evaluation import weight_edits
from steer_core.evaluation.weight_edits import compare_weights
from steer_core.generation.engines.transformers import TransformersBackend
from steer_core.tables.errors import SteerworksError

PROMPTS = [
    f"Write a text about the {a} and the lamp." for a in ("gardener", "baker", "sailor", "teacher", "doctor", "farmer")
]


@pytest.fixture(scope="module")
def model():
    return steer.load("embedded")


@pytest.fixture(scope="module")
def edited(model, tmp_path_factory):
    vector = model.fit([(p, "It was a wonderful day.", "It was a horrible day.") for p in PROMPTS], "gladness")
    return steer.load(str(vector.edit_weights(model, tmp_path_factory.mktemp("weights") / "edited")))


def engine(model):
    return TransformersBackend(model.loaded)


def test_a_model_beside_itself_has_moved_by_nothing(model):
    found = compare_weights(engine(model), engine(model), PROMPTS, PROMPTS[:3], max_new_tokens=12)
    assert found["measure"].to_list() == ["refusals", "refusals", "kl", "kl_first_token"]
    assert found["prompts"].to_list() == ["harmless", "harmful", "harmless", "harmless"]
    assert found["n"].to_list() == [6, 3, 6, 6]
    assert found["after"].to_list() == [0.0, 0.0, 0.0, 0.0]
    refusals = found.filter(pl.col("measure") == "refusals")
    # none of six is no proof of none: the interval is no point, and p says nothing
    assert refusals["before_high"].to_list() == pytest.approx([0.459, 0.708], abs=0.01)
    assert refusals["p"].to_list() == [1.0, 1.0]


def test_kl_is_that_of_the_model_before_against_the_one_after(model, edited):
    found = compare_weights(engine(model), engine(edited), PROMPTS, [], max_new_tokens=12)
    assert found["measure"].to_list() == ["refusals", "kl", "kl_first_token"]
    kl = []
    for prompt in PROMPTS:
        tokenizer = model.loaded.tokenizer
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )["input_ids"]
        out = model.transformers_model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False
        )
        answer = tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
        tokens = torch.cat([ids, torch.tensor([tokenizer(answer, add_special_tokens=False)["input_ids"]])], dim=1)
        with torch.no_grad():
            p, q = (
                m.transformers_model(tokens).logits[0, ids.shape[1] - 1 : -1].log_softmax(-1) for m in (model, edited)
            )
        kl.append((p.exp() * (p - q)).sum(-1).numpy())
    rows = {r["measure"]: r for r in found.iter_rows(named=True)}
    assert rows["kl"]["after"] == pytest.approx(np.mean([k.mean() for k in kl]), rel=1e-4)
    assert rows["kl_first_token"]["after"] == pytest.approx(np.mean([k[0] for k in kl]), rel=1e-4)
    assert 0 < rows["kl"]["after_low"] < rows["kl"]["after"] < rows["kl"]["after_high"]


def test_refusals_that_an_edit_takes_away_are_told_from_chance(model, monkeypatch):
    real, asked = weight_edits._answers, []

    def answers(backend, prompts, tokens):
        plans, said = real(backend, prompts, tokens)
        asked.append(backend)
        refuse = len(prompts) == 8 and len(asked) == 3
        return plans, ["I'm sorry, but I can't help with that request."] * 8 if refuse else said

    monkeypatch.setattr(weight_edits, "_answers", answers)
    harmful = [f"Tell me about danger {n}." for n in range(8)]
    found = compare_weights(engine(model), engine(model), PROMPTS, harmful, max_new_tokens=4)
    row = found.filter(pl.col("measure") == "refusals", pl.col("prompts") == "harmful").row(0, named=True)
    assert (row["before"], row["after"]) == (1.0, 0.0)
    # eight prompts of one sign: 2 of 2^8
    assert row["p"] == pytest.approx(2 / 256, abs=0.003)


def test_prompts_that_cannot_be_compared_are_refused(model):
    with pytest.raises(SteerworksError, match="no harmless prompts"):
        compare_weights(engine(model), engine(model), [], PROMPTS)
    with pytest.raises(SteerworksError, match="a harmful prompt stands twice"):
        compare_weights(engine(model), engine(model), PROMPTS, ["a", "a"])
