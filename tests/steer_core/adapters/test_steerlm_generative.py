"""The attribute model that writes levels: its loss and its probabilities against plain passes, kills, refusals."""

import numpy as np
import pytest
import torch

from schemas.specs import ModelSpec
from schemas.steerlm import AttributeModelSpec, AttributeSet
from steer_core.adapters.run import RunFolder
from steer_core.adapters.steerlm.attribute_model import attribute_model, load_attribute_model, save_attribute_model
from steer_core.adapters.steerlm.attribute_training import train_attribute_model
from steer_core.adapters.steerlm.generative import WrittenLabels
from steer_core.adapters.steerlm.token_rows import TokenRows
from steer_core.models.loading import load_model
from steer_core.tables.errors import ConfigError
from tests.steer_core.adapters.test_steerlm_attribute_model import TWO, rows

FAST = AttributeModelSpec(form="generative", steps=6, rows_per_step=4, lora={"rank": 2, "alpha": 4.0})


@pytest.fixture(scope="module")
def spec():
    # its tokenizer has a token for each digit
    return ModelSpec(name="embedded", source="embedded", device="cpu")


@pytest.fixture
def loaded(spec):
    return load_model(spec)


def logits(model, ids):
    return model.lm(input_ids=torch.tensor([list(ids)])).logits[0].double()


def trained(spec, folder, settings=FAST, data=None, **more):
    made = load_model(spec)
    return train_attribute_model(
        lambda: made.model,
        data or rows(),
        TWO,
        settings,
        RunFolder(folder),
        base="embedded",
        tokenizer=made.tokenizer,
        **more,
    )


def test_the_loss_is_that_of_the_levels_alone(loaded):
    made = attribute_model(loaded.model, TWO, FAST, loaded.tokenizer)
    written = made.written
    data = rows(5)
    nats = []
    for text, (a, b) in zip(data.ids, data.targets, strict=True):
        ids = list(text)
        for k, level in enumerate((a + 2, b)):
            if not np.isnan(level):
                ids += written.ahead[k]
                among = logits(made, ids)[-1][list(written.levels[k])]
                nats.append(-among.log_softmax(-1)[int(level)].item())
                ids.append(written.levels[k][int(level)])
    assert len(nats) == 9
    assert made.loss(data.ids, data.targets).item() == pytest.approx(np.mean(nats), abs=1e-5)


def test_unrounded_levels_beyond_the_range_are_brought_into_it(loaded):
    made = attribute_model(loaded.model, TWO, FAST, loaded.tokenizer)
    ids = rows(2).ids
    given, meant = np.array([[2.7, -0.4], [-0.5, 1.5]]), np.array([[2.0, 0.0], [0.0, 2.0]])
    assert torch.equal(made.loss(ids, given), made.loss(ids, meant))


def test_predictions_are_means_under_the_levels_tokens_each_given_the_likeliest_before_it(loaded):
    made = attribute_model(loaded.model, TWO, FAST, loaded.tokenizer)
    ids = rows(12).ids
    found, predicted = made.probabilities(ids, batch_rows=3), made.predict(ids)
    for n, text in enumerate(ids):
        said = list(text)
        for k, levels in enumerate(made.written.levels):
            said += made.written.ahead[k]
            p = logits(made, said)[-1][list(levels)].softmax(-1).detach().numpy()
            assert found[k][n] == pytest.approx(p, abs=1e-5)
            assert predicted[n, k] == pytest.approx(TWO.attributes[k].low + p @ np.arange(len(p)), abs=1e-4)
            said.append(levels[int(p.argmax())])
    with pytest.raises(ValueError, match="without a token"):
        made.predict([()])


@pytest.mark.parametrize("body", ["lora", "full"])
def test_a_killed_run_ends_in_the_same_weights_and_log(spec, tmp_path, body):
    settings = FAST.model_copy(update={"body": body})
    whole = trained(spec, tmp_path / "whole", settings)

    def kill(step, figures):
        if step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(spec, tmp_path / "killed", settings, observe=kill)
    resumed = trained(spec, tmp_path / "killed", settings)
    for name, weight in whole.learned().items():
        assert torch.equal(weight, resumed.learned()[name]), name
    logs = [RunFolder(tmp_path / name).rows("log") for name in ("whole", "killed")]
    assert logs[0] == logs[1]
    assert all(("lora" in name) == (body == "lora") for name in whole.learned())


def test_what_was_learnt_is_read_with_its_tokenizer(spec, tmp_path):
    made = trained(spec, tmp_path / "run")
    save_attribute_model(made, tmp_path / "kept", "embedded")
    again = load_model(spec)
    read = load_attribute_model(tmp_path / "kept", again.model, "embedded", again.tokenizer)
    assert np.array_equal(made.predict(rows().ids), read.predict(rows().ids))
    with pytest.raises(ConfigError, match="give the tokenizer"):
        load_attribute_model(tmp_path / "kept", load_model(spec).model, "embedded")


def test_it_learns_what_words_say(spec, tmp_path):
    told = load_model(spec).tokenizer(" terrible bad good wonderful", add_special_tokens=False)["input_ids"]
    assert len(set(told[:4])) == 4
    levels = np.random.default_rng(0).integers(0, 4, 240)
    ids = tuple((1, told[int(level)], 2) for level in levels)
    targets = np.stack([levels - 1.0, 3.0 - levels], axis=1)
    settings = AttributeModelSpec(form="generative", steps=40, rows_per_step=16, learning_rate=3e-3)
    made = trained(spec, tmp_path, settings, TokenRows(ids[:200], targets[:200]))
    assert np.abs(made.predict(ids[200:]) - targets[200:]).mean() < 0.1


def test_levels_that_are_no_tokens_of_their_own_are_refused(loaded):
    twelve = AttributeSet.of("a", high=11)
    with pytest.raises(ConfigError, match="attribute 'a': this tokenizer does not write each of its 12 levels"):
        WrittenLabels.of(loaded.tokenizer, twelve)
    with pytest.raises(ValueError, match="leaves nothing else to learn"):
        AttributeModelSpec(form="generative", body="frozen")
