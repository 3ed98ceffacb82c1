import numpy as np
import polars as pl
import pytest
from preference_world import grammar_pairs, random_model, random_pairs

from steer_core.tables.errors import ConfigError
from steer_core.vectors.estimators.reps import train
from steer_core.vectors.evidence import Point
from steer_core.vectors.preference.capture import capture
from steer_core.vectors.preference.objectives import Reps, loss_of
from steer_core.vectors.preference.training import Schedule, train_vector


@pytest.fixture(scope="module")
def llama():
    return random_model("llama")


@pytest.fixture(scope="module")
def trunk(llama):
    return capture(llama, random_pairs(10, validation=3), [1])[1]


def drawn(seed, scale=0.5):
    import torch

    return torch.from_numpy(np.random.default_rng(seed).normal(0, scale, 32).astype(np.float32))


def plain_log_probs(model, pair, edit):
    """Summed log-probabilities of chosen and rejected in plain passes, the edit applied after layer 1."""
    import torch

    handle = model.model.layers[1].register_forward_hook(lambda _m, _i, output: edit(output))
    sums = []
    with torch.no_grad():
        for answer in (pair.chosen, pair.rejected):
            logits = model(torch.tensor([pair.prompt + answer])).logits[0].log_softmax(-1)
            start = len(pair.prompt) - 1
            sums.append(sum(logits[start + k, token].item() for k, token in enumerate(answer)))
    handle.remove()
    return sums


def test_the_margins_are_the_published_formula_term_by_term(llama, trunk):
    import torch

    vector, beta = drawn(0), 0.7
    unit = vector / vector.norm()

    def nulled(h):
        along = (h @ unit)[..., None]
        return torch.where(along > 0, h - along * unit, h)

    with trunk.running():
        found = Reps(factors=(3.0,), beta=beta).margins(trunk, range(10), vector, (3.0, 0.0)).numpy()
    boosted = 0
    for i, pair in enumerate(trunk.pairs):
        chosen, rejected = plain_log_probs(llama.model, pair, lambda h: h)
        up, down = max(rejected - chosen, 1.0), max(chosen - rejected, 1.0)
        n_chosen, n_rejected = len(pair.chosen), len(pair.rejected)
        steered = plain_log_probs(llama.model, pair, lambda h: h + 3.0 * vector)
        suppressed = plain_log_probs(llama.model, pair, nulled)
        assert found[0, i] == pytest.approx(beta * (up * steered[0] / n_chosen - steered[1] / n_rejected), rel=1e-4)
        assert found[1, i] == pytest.approx(
            beta * (down * suppressed[1] / n_rejected - suppressed[0] / n_chosen), rel=1e-4
        )
        boosted += up > 1 or down > 1
    assert boosted > 5


def test_the_loss_is_the_steering_term_plus_the_suppressing_one(trunk):
    import torch

    objective, margins = Reps(factors=(1.0, 2.0)), torch.tensor([[0.3], [-1.0], [2.0]])
    single = -torch.nn.functional.logsigmoid(margins)[:, 0]
    assert float(loss_of(objective, margins[[0, 2]], (1.0, 0.0))) == pytest.approx(
        float(single[0] + single[2]), rel=1e-6
    )
    expected = float((single[0] + single[1]) / 2 + single[2])
    assert float(loss_of(objective, margins, objective.factors_measured)) == pytest.approx(expected, rel=1e-6)


def test_each_step_draws_one_factor_and_nulls():
    sample, again = Reps().sampler(4), Reps().sampler(4)
    steps = [sample() for _ in range(200)]
    assert steps == [again() for _ in range(200)]
    assert {s[0] for s in steps} == set(Reps().factors)
    assert {s[1:] for s in steps} == {(0.0,)}


def test_the_start_has_its_norm_and_follows_the_seed():
    one, other = Reps(start_norm=2.0).start(64, 0), Reps(start_norm=2.0).start(64, 1)
    assert np.linalg.norm(one) == pytest.approx(2.0, rel=1e-6)
    assert abs(one @ other) < 2.0


def test_the_gradient_is_the_slope_of_the_loss(trunk):
    import torch

    objective, along, factors = Reps(factors=(2.0,)), drawn(2), (2.0, 0.0)
    vector = drawn(1).requires_grad_(True)
    with trunk.running():
        loss = loss_of(objective, objective.margins(trunk, range(7), vector, factors), factors).mean()
        slope = float(torch.autograd.grad(loss, vector)[0] @ along)
        ends = []
        for step in (3e-3, -3e-3):
            margins = objective.margins(trunk, range(7), vector.detach() + step * along, factors)
            ends.append(float(loss_of(objective, margins, factors).mean()))
    assert slope == pytest.approx((ends[0] - ends[1]) / 6e-3, rel=0.05)


def test_training_lowers_the_loss_on_the_pairs_it_sees(trunk):
    schedule = Schedule(epochs=12, warmup=0, learning_rate=0.05)
    trained = train_vector(trunk, Reps(factors=(1.0, 2.0)), schedule, validation=trunk.indices("train"))
    assert trained.best.validation_loss < trained.curve[0].validation_loss - 0.1
    assert trained.best.margins["+2"] > trained.curve[0].margins["+2"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"factors": (1.0, -1.0)}, "factors are positive"),
        ({"factors": ()}, "factors are positive"),
        ({"beta": 0.0}, "must be positive"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        Reps(**options)


def test_on_the_embedded_model_the_margin_grows_and_the_direction_makes_the_concept_likelier():
    from schemas.specs import ModelSpec
    from steer_core.models.loading import load_model
    from steer_core.vectors.preference.pair_tokens import encode_pairs

    loaded = load_model(ModelSpec(name="embedded", source="embedded"))
    options = {"factors": [1.0, 2.0], "epochs": 8, "batch": 16, "learning_rate": 0.03, "warmup": 4}
    table = grammar_pairs("sentiment", 96, 32)
    ((point, fit),) = train(loaded, table, pl.DataFrame(), "sentiment", [Point(2)], 0, **options)
    assert (point, fit.operator) == (Point(2), "add")
    curve = fit.lineage["curve"]
    assert fit.scalars["validation_loss"] < curve[0]["validation_loss"] - 0.05
    assert fit.scalars["validation_margin"] > np.mean(list(curve[0]["margins"].values()))
    import torch

    held = capture(loaded, encode_pairs(loaded, grammar_pairs("sentiment", 16, 1, seed=9), "sentiment"), [2])[2]
    direction = torch.from_numpy(fit.tensors["direction"][0])
    with held.running(), torch.no_grad():
        sides = held.log_probs(range(17), [lambda h: h + 2 * direction, lambda h: h - 2 * direction])
    gaps = (sides[..., 0] - sides[..., 1]).mean(dim=1)
    assert gaps[0] > gaps[1] + 1.0, "two vectors this way and that are worth more than a nat"
