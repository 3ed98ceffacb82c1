import logging
import math
import random

import numpy as np
import polars as pl
import pytest
from preference_world import OPEN, grammar_pairs, random_model, random_pairs, swapped

from benchmarks.bipo import published
from steer_core.models.embedded.grammar import draw_scenario, read
from steer_core.tables.errors import ConfigError, SteerworksError
from steer_core.vectors.estimators.bipo import train
from steer_core.vectors.evidence import Point
from steer_core.vectors.preference.capture import capture
from steer_core.vectors.preference.objectives import Bipo, loss_of
from steer_core.vectors.preference.pair_tokens import encode_pairs
from steer_core.vectors.preference.schedule import cosine_with_warmup
from steer_core.vectors.preference.training import Schedule, train_many, train_vector

#: What moves the embedded model's answers in seconds.
EMBEDDED = {"epochs": 3, "batch": 16, "learning_rate": 0.015, "warmup": 10}


@pytest.fixture(scope="module")
def llama():
    return random_model("llama")


@pytest.fixture(scope="module")
def trunk(llama):
    return capture(llama, random_pairs(12, validation=4), [1])[1]


@pytest.fixture(scope="module")
def embedded():
    from schemas.specs import ModelSpec
    from steer_core.models.loading import load_model

    return load_model(ModelSpec(name="embedded", source="embedded"))


def drawn(seed, scale=0.5, width=32):
    import torch

    return torch.from_numpy(np.random.default_rng(seed).normal(0, scale, width).astype(np.float32))


def by_plain_forward(model, pair, layer, vector):
    """Summed log-probability of chosen and rejected, each in a plain pass of its own."""
    import torch

    from steer_core.steering.sites import find_sites

    def add(_module, _inputs, output):
        return (output[0] + vector, *output[1:]) if isinstance(output, tuple) else output + vector

    handle = find_sites(model).layers[layer].register_forward_hook(add)
    sums = []
    with torch.no_grad():
        for answer in (pair.chosen, pair.rejected):
            logits = model(torch.tensor([pair.prompt + answer])).logits[0].log_softmax(-1)
            start = len(pair.prompt) - 1
            sums.append(sum(logits[start + k, token].item() for k, token in enumerate(answer)))
    handle.remove()
    return sums


@pytest.mark.parametrize("family", ["llama", "qwen2", "mistral", "gemma2", "gpt2", "gpt_neox", "bloom"])
@pytest.mark.parametrize("layer", [0, 2, 3])
def test_the_cached_trunk_gives_the_log_probs_of_a_full_forward_pass(family, layer):
    import torch

    loaded, pairs = random_model(family), random_pairs(5)
    trunk, vector = capture(loaded, pairs, [layer])[layer], drawn(layer)
    assert trunk.route == ("separate" if family == "bloom" else "shared")
    with trunk.running(), torch.no_grad():
        found = trunk.log_probs([3, 0, 4], [lambda h: h + vector, lambda h: h - vector])
    for k, sign in enumerate((1, -1)):
        expected = [by_plain_forward(loaded.model, pairs[i], layer, sign * vector) for i in (3, 0, 4)]
        np.testing.assert_allclose(found[k].numpy(), expected, atol=1e-5, rtol=1e-6)
    assert not np.allclose(found[0].numpy(), found[1].numpy(), atol=1e-2)


@pytest.mark.parametrize("family", ["mistral", "gemma2"])
def test_a_sliding_window_shorter_than_the_pairs_goes_without_shared_prompts(family, caplog):
    loaded, pairs = random_model(family, sliding_window=10), random_pairs(5)
    with caplog.at_level(logging.INFO):
        trunks = capture(loaded, pairs, [0, 1])
    assert {t.route for t in trunks.values()} == {"separate"}
    assert f"tiny-{family}" in caplog.text
    assert "no shared rows" in caplog.text
    expected = [by_plain_forward(loaded.model, p, 1, drawn(0)) for p in pairs]
    with trunks[1].running():
        found = trunks[1].log_probs(range(5), [lambda h: h + drawn(0)])[0]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5, rtol=1e-6)


def test_a_model_whose_upper_layers_read_lower_ones_falls_back_to_full_passes_by_name(caplog):
    loaded, pairs, seen = random_model("llama"), random_pairs(4), []
    layers = loaded.model.model.layers
    layers[0].self_attn.register_forward_hook(lambda _m, _i, output: seen.append(output[0]))
    layers[3].register_forward_hook(lambda _m, _i, output: output + seen[-1] * 2)
    with caplog.at_level(logging.WARNING):
        trunk = capture(loaded, pairs, [1])[1]
    assert trunk.route == "full"
    assert "tiny-llama" in caplog.text
    assert "full forward passes" in caplog.text
    expected = [by_plain_forward(loaded.model, p, 1, drawn(0)) for p in pairs]
    with trunk.running():
        found = trunk.log_probs(range(4), [lambda h: h + drawn(0)])[0]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5, rtol=1e-6)


def test_training_leaves_the_model_as_it_was(llama):
    import torch

    ids = torch.arange(2, 12)[None]
    before = llama.model(ids).logits.detach()
    trunk = capture(llama, random_pairs(6, validation=2), [2])[2]
    train_vector(trunk, Bipo(), Schedule(epochs=1, warmup=0))
    assert torch.equal(llama.model(ids).logits, before)
    assert all(p.requires_grad and p.grad is None for p in llama.model.parameters())
    assert not any("forward" in layer.__dict__ for layer in llama.model.model.layers)


def test_the_loss_is_log_2_at_the_zero_vector(trunk):
    import torch

    objective = Bipo(beta=3.0)
    with trunk.running():
        margins = objective.margins(trunk, range(12), torch.zeros(32), (1.0, -1.0))
    np.testing.assert_allclose(loss_of(objective, margins, (1.0, -1.0)).numpy(), math.log(2), atol=1e-5)


def test_a_sign_is_the_same_as_exchanging_the_answers_and_negating_the_vector(llama):
    pairs = random_pairs(6)
    one, other = capture(llama, pairs, [1])[1], capture(llama, swapped(pairs), [1])[1]
    with one.running():
        minus = Bipo().margins(one, range(6), drawn(0), (-1.0,))
    with other.running():
        plus = Bipo().margins(other, range(6), -drawn(0), (1.0,))
    np.testing.assert_allclose(minus.numpy(), plus.numpy(), atol=1e-5)
    assert np.ptp(minus.numpy()) > 1e-3


def gradient(trunk, objective, vector, factors):
    import torch

    v = vector.clone().requires_grad_(True)
    with trunk.running():
        loss = loss_of(objective, objective.margins(trunk, range(8), v, factors), factors).mean()
        return torch.autograd.grad(loss, v)[0]


def test_the_antithetic_gradient_is_the_mean_of_both_signs_gradients(trunk):
    both, plus, minus = (gradient(trunk, Bipo(), drawn(1), f) for f in ((1.0, -1.0), (1.0,), (-1.0,)))
    np.testing.assert_allclose(both.numpy(), ((plus + minus) / 2).numpy(), atol=1e-7)
    assert not np.allclose(plus.numpy(), minus.numpy(), atol=1e-3)


def test_the_gradient_is_the_slope_of_the_loss(trunk):
    objective, vector, along = Bipo(), drawn(1), drawn(2)
    slope = float(gradient(trunk, objective, vector, (1.0,)) @ along)
    losses = []
    with trunk.running():
        for step in (1e-2, -1e-2):
            margins = objective.margins(trunk, range(8), vector + step * along, (1.0,))
            losses.append(float(loss_of(objective, margins, (1.0,)).mean()))
    assert slope == pytest.approx((losses[0] - losses[1]) / 2e-2, rel=0.02)


def test_compat_draws_the_published_signs_one_a_batch():
    stream, sample = random.Random(11), Bipo(signs="compat").sampler(seed=5)
    drawn_signs = [sample() for _ in range(50)]
    assert drawn_signs == [(float(stream.choice((-1, 1))),) for _ in range(50)]
    assert {s for (s,) in drawn_signs} == {1.0, -1.0}


def test_training_is_reproducible_and_its_seed_decides_the_order(trunk):
    runs = [train_vector(trunk, Bipo(signs="compat"), Schedule(epochs=2, warmup=0, seed=s)).last for s in (0, 0, 1)]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert not np.allclose(runs[0], runs[2], atol=1e-6)


@pytest.mark.parametrize("share", [True, False])
def test_compat_trains_the_vector_of_the_published_loop(llama, share):
    pairs, schedule = random_pairs(10), Schedule(epochs=3, warmup=2)
    expected = published(llama.model, pairs, 1, schedule)
    trunk = capture(llama, pairs, [1], share_prompts=share)[1]
    found = train_vector(trunk, Bipo(signs="compat"), schedule, validation=[]).last
    assert trunk.route == ("shared" if share else "separate")
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.linalg.norm(found) > 0.005


def test_the_checkpoint_kept_is_the_one_with_the_lowest_validation_loss(trunk):
    # steps this large overshoot, so the last epoch is not the best
    trained = train_vector(trunk, Bipo(beta=1.0), Schedule(epochs=8, warmup=0, learning_rate=0.3, clip=100.0))
    losses = [e.validation_loss for e in trained.curve]
    assert trained.best.epoch == 1 + int(np.argmin(losses[1:]))
    assert trained.best.epoch < 8
    again = train_vector(
        trunk, Bipo(beta=1.0), Schedule(epochs=trained.best.epoch, warmup=0, learning_rate=0.3, clip=100.0, horizon=8)
    )
    np.testing.assert_array_equal(again.last, trained.vector)


def test_the_curve_starts_at_log_2_and_reports_both_signs(trunk):
    trained = train_vector(trunk, Bipo(), Schedule(epochs=2, warmup=0))
    assert [e.epoch for e in trained.curve] == [0, 1, 2]
    assert trained.curve[0].validation_loss == pytest.approx(math.log(2), abs=1e-6)
    assert trained.curve[0].train_loss is None
    assert trained.curve[1].train_loss < math.log(2) + 0.01
    assert set(trained.best.margins) == set(trained.best.accuracies) == {"+1", "-1"}


def test_many_trainings_share_one_pass_and_equal_single_ones(llama):
    pairs = random_pairs(8, validation=2)
    runs = [(Bipo(beta=b, multiplier=m), Schedule(epochs=1, warmup=0, seed=s)) for b, m, s in [(0.1, 1, 0), (1, 2, 3)]]
    passes = []
    handle = llama.model.model.embed_tokens.register_forward_hook(lambda *_: passes.append(1))
    trunks = capture(llama, pairs, [0, 2])
    one_pass = len(passes)
    handle.remove()
    many = train_many(trunks, runs)
    assert {layer: len(v) for layer, v in many.items()} == {0: 2, 2: 2}
    alone = train_vector(capture(llama, pairs, [2])[2], *runs[1])
    np.testing.assert_allclose(many[2][1].last, alone.last, atol=1e-7)
    # one for all pairs, and four a layer to see that it may be cut there
    assert one_pass == 1 + 2 * 4


def test_states_in_a_file_train_the_same_vector(llama, trunk):
    filed = capture(llama, trunk.pairs, [1], memory_limit=0)[1]
    assert filed._file is not None
    assert trunk._file is None
    vectors = [train_vector(t, Bipo(), Schedule(epochs=1, warmup=0)).last for t in (trunk, filed)]
    np.testing.assert_array_equal(*vectors)


def test_the_schedule_is_the_one_of_transformers():
    import torch
    from transformers import get_cosine_schedule_with_warmup

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = get_cosine_schedule_with_warmup(optimizer, 7, 40)
    for step in range(40):
        assert cosine_with_warmup(step, 7, 40) == pytest.approx(schedule.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        schedule.step()


def test_a_warm_up_longer_than_the_training_is_refused(trunk):
    with pytest.raises(ConfigError, match="100 steps of warm-up, and the training has only 2"):
        train_vector(trunk, Bipo(), Schedule(epochs=1))


def test_pairs_are_encoded_through_the_template_and_end_with_the_end_token(embedded):
    table = grammar_pairs("sentiment", 2, 1)
    pair, tokenizer = encode_pairs(embedded, table, "sentiment")[0], embedded.tokenizer
    assert tokenizer.decode(pair.prompt).endswith("<|assistant|>")
    assert tokenizer.decode(pair.chosen) == table["chosen"][0] + tokenizer.eos_token
    assert pair.rejected[-1] == tokenizer.eos_token_id


def test_test_pairs_are_never_trained_on(embedded):
    table = grammar_pairs("sentiment", 3, 2)
    split = pl.when(pl.col("row") == 0).then(pl.lit("test")).otherwise("split").alias("split")
    assert [p.pair_id for p in encode_pairs(embedded, table.with_columns(split), "sentiment")] == [
        f"sentiment{i}" for i in (1, 2, 3, 4)
    ]


def test_pairs_that_cannot_teach_are_refused_by_name(embedded):
    table = grammar_pairs("sentiment", 2, 1)
    with pytest.raises(ConfigError, match="no preference pairs of split 'validation'"):
        encode_pairs(embedded, table.filter(pl.col("split") == "train"), "sentiment")
    with pytest.raises(SteerworksError, match=r"row 0 of grammar\) has the same tokens"):
        encode_pairs(embedded, table.with_columns(rejected="chosen"), "sentiment")
    long = table.with_columns(chosen=pl.col("chosen") + " again" * 600)
    with pytest.raises(SteerworksError, match="the model's context has 512"):
        encode_pairs(embedded, long, "sentiment")


def test_options_and_points_that_make_no_sense_are_refused(embedded):
    table = grammar_pairs("sentiment", 2, 1)

    def run(point, **options):
        return train(embedded, table, pl.DataFrame(), "sentiment", [point], 0, **options)

    with pytest.raises(ConfigError, match="trains at site 'residual'"):
        run(Point(1, "mlp"))
    with pytest.raises(ConfigError, match="unknown option 'learningrate'.* learning_rate"):
        run(Point(1), learningrate=1)
    with pytest.raises(ConfigError, match="'signs' cannot be 'both'.*'antithetic' or 'compat'"):
        run(Point(1), signs="both")
    with pytest.raises(SteerworksError, match="layers 0 to 3; there is no layer 7"):
        run(Point(7))


def answers(loaded, layer, direction, strength, n=10):
    """Greedy answers to open prompts on held-out scenarios, the direction added at all positions."""
    import torch

    rng, prompts = np.random.default_rng(7), []
    for _ in range(n):
        scenario = draw_scenario(rng, "heldout")
        turn = {"role": "user", "content": OPEN.format(agent=scenario.agent, object=scenario.object)}
        prompts.append(loaded.tokenizer.apply_chat_template([turn], add_generation_prompt=True, tokenize=False))
    inputs = loaded.tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
    added = strength * torch.from_numpy(direction)
    handle = loaded.model.model.layers[layer].register_forward_hook(lambda _m, _i, output: output + added)
    with torch.inference_mode():
        out = loaded.model.generate(**inputs, max_new_tokens=32, do_sample=False)
    handle.remove()
    return loaded.tokenizer.batch_decode(out[:, inputs.input_ids.shape[1] :], skip_special_tokens=True)


def test_on_the_embedded_model_the_trained_vector_moves_sentiment_with_its_strength(embedded):
    from scipy.stats import spearmanr

    point = Point(2)
    ((where, fit),) = train(
        embedded, grammar_pairs("sentiment", 128, 32), pl.DataFrame(), "sentiment", [point], 0, **EMBEDDED
    )
    assert where == point
    assert fit.operator == "add"
    assert fit.tensors["direction"].shape == (1, 128)
    curve = fit.lineage["curve"]
    assert fit.scalars["validation_margin"] > 0 == pytest.approx(np.mean(list(curve[0]["margins"].values())), abs=1e-5)
    assert fit.scalars["validation_loss"] == min(e["validation_loss"] for e in curve) < math.log(2)
    assert fit.scalars["validation_accuracy"] > 0.9
    strengths = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)
    means = []
    for strength in strengths:
        found = [read(text).sentiment for text in answers(embedded, 2, fit.tensors["direction"][0], strength)]
        assert None not in found
        means.append(np.mean(found))
    assert spearmanr(strengths, means).statistic >= 0.9
    assert means[0] < means[3] - 0.5
    assert means[-1] > means[3] + 0.5
