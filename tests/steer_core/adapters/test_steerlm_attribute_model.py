"""The attribute model on real language models: what it learns, what a kill costs, and what is refused."""

import numpy as np
import pytest
import torch

from schemas.specs import ModelSpec
from schemas.steerlm import AttributeModelSpec, AttributeSet, AttributeSpec
from steer_core.adapters.run import RunFolder
from steer_core.adapters.steerlm.attribute_model import (
    SETTINGS,
    WEIGHTS,
    AttributeModel,
    load_attribute_model,
    save_attribute_model,
)
from steer_core.adapters.steerlm.attribute_training import ridge_head, train_attribute_model
from steer_core.adapters.steerlm.token_rows import TokenRows, batches, rows_of_texts, usable
from steer_core.models.embedded.grammar import write
from steer_core.models.loading import load_model
from steer_core.tables.errors import ConfigError, SteerworksError

TWO = AttributeSet(attributes=(AttributeSpec(name="a", low=-2, high=2), AttributeSpec(name="b")))
FAST = AttributeModelSpec(steps=6, rows_per_step=4, lora={"rank": 2, "alpha": 4.0})


@pytest.fixture(scope="module")
def spec(tiny_model):
    return ModelSpec(name="tiny", source=str(tiny_model()), device="cpu")


@pytest.fixture
def model(spec):
    return load_model(spec)


def rows(n: int = 24, seed: int = 0) -> TokenRows:
    rng = np.random.default_rng(seed)
    ids = tuple(tuple(int(t) for t in rng.integers(4, 200, rng.integers(3, 9))) for _ in range(n))
    targets = np.stack([rng.integers(-2, 3, n), rng.integers(0, 5, n)], axis=1).astype(float)
    targets[::5, 0] = np.nan
    return TokenRows(ids, targets)


def trained(spec, folder, settings=FAST, data=None, **more):
    return train_attribute_model(
        lambda: load_model(spec).model, data or rows(), TWO, settings, RunFolder(folder), base="tiny", **more
    )


@pytest.mark.parametrize("read", ["last", "mean"])
def test_padding_and_order_of_rows_change_no_prediction(model, read):
    made = AttributeModel(model.model, TWO, AttributeModelSpec(body="frozen", read=read))
    ridge_head(made, rows(), 1e-3)
    ids = rows().ids
    together = made.predict(ids)
    alone = np.concatenate([made.predict([r], batch_rows=1) for r in ids])
    assert together == pytest.approx(alone, abs=1e-4)
    assert np.ptp(together, axis=0).min() > 0.1
    with pytest.raises(ValueError, match="without a token"):
        made.predict([()])


def test_what_is_read_is_the_last_token_or_the_mean(model):
    ids = [(5, 6, 7), (8, 9)]
    for read in ("last", "mean"):
        made = AttributeModel(model.model, TWO, AttributeModelSpec(body="frozen", read=read))
        found = made.features(ids)
        for row, own in zip(ids, found, strict=True):
            hidden = model.model(torch.tensor([row]), output_hidden_states=True).hidden_states[-1][0]
            assert torch.allclose(own, hidden[-1] if read == "last" else hidden.mean(0), atol=1e-5)


def test_the_head_of_a_frozen_body_is_the_ridge_regression(model):
    from sklearn.linear_model import Ridge

    made = AttributeModel(model.model, TWO, AttributeModelSpec(body="frozen"))
    data = rows(60)
    ridge_head(made, data, 0.05)
    x = made.features(data.ids).detach().double().numpy()
    x = (x - x.mean(0)) / x.std(0)
    for k in range(2):
        known = ~np.isnan(data.targets[:, k])
        other = Ridge(alpha=0.05 * known.sum()).fit(x[known], data.targets[known, k])
        assert made.predict(data.ids)[:, k] == pytest.approx(other.predict(x), abs=2e-4)


@pytest.mark.parametrize(("body", "some"), [("frozen", "head.weight"), ("lora", "lora_A"), ("full", "mlp")])
def test_only_what_should_learn_does(model, body, some):
    made = AttributeModel(model.model, TWO, AttributeModelSpec(body=body))
    names = set(made.learned())
    assert {"head.weight", "head.bias"} <= names
    assert any(some in n for n in names)
    assert (names == {"head.weight", "head.bias"}) == (body == "frozen")
    assert not any("lm_head" in n for n in names)


@pytest.mark.parametrize("body", ["lora", "full"])
def test_a_killed_run_ends_in_the_same_weights_and_log(spec, tmp_path, body):
    settings = FAST.model_copy(update={"body": body})
    whole = trained(spec, tmp_path / "whole", settings)

    def kill(step, figures):
        if step == 4:
            raise KeyboardInterrupt

    said = []
    with pytest.raises(KeyboardInterrupt):
        trained(spec, tmp_path / "killed", settings, observe=kill)
    resumed = trained(spec, tmp_path / "killed", settings, say=said.append)
    # the row of step 4 was written, its checkpoint was not
    assert said == ["training goes on after step 3 of 6"]
    for name, weight in whole.learned().items():
        assert torch.equal(weight, resumed.learned()[name]), name
    logs = [RunFolder(tmp_path / name).rows("log") for name in ("whole", "killed")]
    assert logs[0] == logs[1]
    assert [r["step"] for r in logs[0] if r["measure"] == "loss"] == [1, 2, 3, 4, 5, 6]
    # not vacuous: the steps moved the weights
    start = AttributeModel(load_model(spec).model, TWO, settings)
    assert any(not torch.equal(w, start.learned()[n]) for n, w in whole.learned().items() if "head" not in n)


def test_a_finished_run_is_read_and_not_trained_again(spec, tmp_path):
    first = trained(spec, tmp_path)
    steps = []
    again = trained(spec, tmp_path, observe=lambda step, figures: steps.append(step))
    assert steps == []
    assert np.array_equal(first.predict(rows().ids), again.predict(rows().ids))


def test_a_folder_of_another_run_is_refused(spec, tmp_path):
    trained(spec, tmp_path)
    with pytest.raises(ConfigError, match="other data, model or settings"):
        trained(spec, tmp_path, data=rows(seed=1))
    with pytest.raises(ConfigError, match="other data, model or settings"):
        trained(spec, tmp_path, FAST.model_copy(update={"learning_rate": 1e-5}))


@pytest.mark.parametrize("body", ["frozen", "lora"])
def test_a_saved_model_predicts_the_same_on_the_same_language_model_alone(spec, tmp_path, body):
    made = trained(spec, tmp_path / "run", FAST.model_copy(update={"body": body}))
    save_attribute_model(made, tmp_path / "kept", base="tiny")
    found = load_attribute_model(tmp_path / "kept", load_model(spec).model, "tiny")
    assert np.array_equal(found.predict(rows().ids), made.predict(rows().ids))
    with pytest.raises(ConfigError, match="trained on the language model 'tiny'"):
        load_attribute_model(tmp_path / "kept", load_model(spec).model, "another")


def test_damaged_models_are_refused_by_name(spec, model, tmp_path):
    with pytest.raises(ConfigError, match="holds no attribute model"):
        load_attribute_model(tmp_path, model.model, "tiny")
    save_attribute_model(trained(spec, tmp_path / "run"), tmp_path / "kept", base="tiny")
    settings = (tmp_path / "kept" / SETTINGS).read_text()
    (tmp_path / "kept" / SETTINGS).write_text(settings.replace('"rank": 2', '"rank": 3'))
    with pytest.raises(ConfigError, match="do not fit"):
        load_attribute_model(tmp_path / "kept", load_model(spec).model, "tiny")
    (tmp_path / "kept" / SETTINGS).write_text("{}")
    with pytest.raises(ConfigError, match=SETTINGS):
        load_attribute_model(tmp_path / "kept", load_model(spec).model, "tiny")
    (tmp_path / "kept" / SETTINGS).write_text(settings)
    (tmp_path / "kept" / WEIGHTS).write_bytes(b"none")
    with pytest.raises(ConfigError, match=WEIGHTS):
        load_attribute_model(tmp_path / "kept", load_model(spec).model, "tiny")


def test_rows_that_do_not_fit_or_have_no_label_are_left_out_and_counted(spec, tmp_path):
    ids = ((1, 2), tuple(range(4, 40)), (3, 4), (5,))
    targets = np.array([[1.0, 2], [1, 2], [np.nan, np.nan], [0, np.nan]])
    found = usable(TokenRows(ids, targets), 10)
    assert (found.rows.ids, found.too_long, found.unlabelled) == (((1, 2), (5,)), 1, 1)
    with pytest.raises(SteerworksError, match="nothing can be learnt"):
        usable(TokenRows(ids[1:3], targets[1:3]), 10)
    with pytest.raises(SteerworksError, match="attribute 2 has no label"):
        usable(TokenRows(ids[3:], targets[3:]), 10)
    said = []
    settings = FAST.model_copy(update={"max_tokens": 5})
    trained(spec, tmp_path, settings, say=said.append)
    long = sum(len(r) > 5 for r in rows().ids)
    assert said == [f"{long} rows are left out since they are too long, 0 without a label"]


def test_batches_take_each_row_once_an_epoch_and_go_on_where_they_were():
    lengths = list(np.random.default_rng(0).integers(1, 50, 70))
    order = batches(lengths, 8, seed=3)
    drawn = [next(order) for _ in range(20)]
    # eight batches an epoch, six rows over
    assert len(np.unique(np.concatenate(drawn[:8]))) == 64
    assert not np.array_equal(np.sort(np.concatenate(drawn[:8])), np.sort(np.concatenate(drawn[8:16])))
    for first in (3, 8, 13):
        again = batches(lengths, 8, seed=3, first=first)
        assert all(np.array_equal(next(again), drawn[k]) for k in range(first, 20))
    assert len(next(batches([4, 2], 8, seed=0))) == 2


def test_a_special_token_in_a_text_is_refused_or_escaped(model):
    tokenizer = model.tokenizer
    with pytest.raises(SteerworksError, match="text 1 holds '<user>'"):
        rows_of_texts(["fine", "I am <user>"], tokenizer)
    found = rows_of_texts(["I am <user>"], tokenizer, "escape")[0]
    assert tokenizer.convert_tokens_to_ids("<user>") not in found
    assert found[-1] == tokenizer.eos_token_id
    assert rows_of_texts([], tokenizer) == []


def test_a_loss_that_is_no_number_stops_the_run(spec, tmp_path):
    def broken():
        loaded = load_model(spec).model
        with torch.no_grad():
            loaded.model.norm.weight.fill_(torch.nan)
        return loaded

    with pytest.raises(SteerworksError, match="step 1: the loss is nan"):
        train_attribute_model(broken, rows(), TWO, FAST, RunFolder(tmp_path), base="tiny")


def test_a_frozen_body_of_the_model_that_ships_knows_the_sentiment_of_texts_it_never_saw():
    loaded = load_model(ModelSpec(name="embedded", source="embedded", device="cpu"))
    mood = AttributeSet.of("sentiment", low=-2, high=2)
    made = AttributeModel(loaded.model, mood, AttributeModelSpec(body="frozen", read="mean"))
    sets = {}
    for split, seed in (("train", 1), ("heldout", 2)):
        texts = write(240, seed, split)
        levels = np.array([[t.attributes.sentiment] for t in texts], dtype=float)
        sets[split] = TokenRows(tuple(rows_of_texts([t.text for t in texts], loaded.tokenizer)), levels)
    ridge_head(made, sets["train"], 1e-1)
    found, true = made.predict(sets["heldout"].ids)[:, 0], sets["heldout"].targets[:, 0]
    assert 1 - ((found - true) ** 2).sum() / ((true - true.mean()) ** 2).sum() > 0.4


@pytest.mark.parametrize("family", ["gpt2", "gemma2", "gpt_neox", "opt", "bloom", "mixtral"])
def test_other_architectures_are_read_and_trained(tiny_model, tmp_path, family):
    spec = ModelSpec(name="tiny", source=str(tiny_model(family)), device="cpu")
    made = trained(spec, tmp_path, FAST.model_copy(update={"steps": 2}))
    ids = rows().ids
    alone = np.concatenate([made.predict([r], batch_rows=1) for r in ids])
    assert made.predict(ids) == pytest.approx(alone, abs=1e-3)
    adapters = [w for n, w in made.learned().items() if "lora_B" in n]
    # they start at 0
    assert sum(bool(w.abs().max() > 0) for w in adapters) > len(adapters) / 2
