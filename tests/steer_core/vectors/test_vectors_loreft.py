import numpy as np
import polars as pl
import pytest
from preference_world import grammar_pairs, random_model, random_pairs

from schemas.vector_part import VectorPart
from steer_core.steering.operators import load_operator
from steer_core.tables.errors import ConfigError
from steer_core.vectors.estimators.loreft import check, train
from steer_core.vectors.evidence import Point
from steer_core.vectors.preference.capture import capture
from steer_core.vectors.preference.reft import Loreft, orthonormal
from steer_core.vectors.preference.training import Schedule, to_fit, train_vector

WIDTH = 32


@pytest.fixture(scope="module")
def llama():
    return random_model("llama")


@pytest.fixture(scope="module")
def trunk(llama):
    return capture(llama, random_pairs(10, validation=3), [1])[1]


def parameters(seed=0, rank=3):
    import torch

    drawn = np.random.default_rng(seed).normal(0, 0.4, (2 * rank + 1, WIDTH)).astype(np.float32)
    return torch.from_numpy(drawn)


def by_hand(values, h, rank=3):
    """h + R^T (W h + b - R h) of one token, R by Gram and Schmidt."""
    rows = []
    for row in values[:rank].astype(np.float64):
        left = row - sum((row @ r) * r for r in rows)
        rows.append(left / np.linalg.norm(left))
    rotation = np.array(rows)
    return h + rotation.T @ (values[rank : 2 * rank] @ h + values[-1, :rank] - rotation @ h)


def test_the_edit_is_the_published_formula_in_training_and_as_an_operator():
    import torch

    objective, given = Loreft(rank=3), parameters()
    hidden = torch.from_numpy(np.random.default_rng(1).normal(size=(2, 4, WIDTH)).astype(np.float32))
    expected = np.array([[by_hand(given.numpy(), h) for h in row] for row in hidden.double().numpy()])
    np.testing.assert_allclose(objective.edit(given)(hidden).numpy(), expected, atol=2e-5)
    name, tensors = objective.fitted(given.numpy())
    assert (name, {n: t.shape for n, t in tensors.items()}) == (
        "low_rank", {"left": (3, WIDTH), "right": (3, WIDTH), "direction": (1, WIDTH)},
    )  # fmt: skip
    np.testing.assert_allclose(tensors["left"] @ tensors["left"].T, np.eye(3), atol=1e-6)
    applied = load_operator(name).apply(
        hidden, {n: torch.from_numpy(t) for n, t in tensors.items()}, {}, torch.ones(2, 1, 1)
    )
    np.testing.assert_allclose(applied.numpy(), expected, atol=2e-5)


@pytest.mark.parametrize("objective", ["supervised", "preference"])
@pytest.mark.parametrize("positions", ["all", "last_prompt", "completion"])
def test_the_loss_is_its_formula_on_plain_passes(llama, trunk, objective, positions):
    import torch

    made, given = Loreft(3, objective, 0.7, positions), parameters(2)
    with trunk.running(), torch.no_grad():
        losses, margins = made.terms(trunk, range(10), given, (1.0,))

    def log_probs(pair, edit):
        n = len(pair.prompt)

        def hook(_module, _inputs, output):
            where = {"all": slice(None), "last_prompt": slice(n - 1, n), "completion": slice(n, None)}[positions]
            edited = output.clone()
            edited[:, where] = edit(output[:, where])
            return edited

        handle = llama.model.model.layers[1].register_forward_hook(hook)
        sums = []
        with torch.no_grad():
            for answer in (pair.chosen, pair.rejected):
                logits = llama.model(torch.tensor([pair.prompt + answer])).logits[0].log_softmax(-1)
                sums.append(sum(logits[n - 1 + k, token].item() for k, token in enumerate(answer)))
        handle.remove()
        return np.array(sums)

    for i, pair in enumerate(trunk.pairs):
        found = log_probs(pair, made.edit(given))
        if objective == "supervised":
            each = found / [len(pair.chosen), len(pair.rejected)]
            assert float(losses[i]) == pytest.approx(-each[0], rel=1e-4)
            assert float(margins[0, i]) == pytest.approx(each[0] - each[1], abs=2e-4)
        else:
            ratio = found - log_probs(pair, lambda h: h)
            margin = 0.7 * (ratio[0] - ratio[1])
            assert float(margins[0, i]) == pytest.approx(margin, abs=2e-3)
            assert float(losses[i]) == pytest.approx(np.log1p(np.exp(-margin)), abs=2e-3)


@pytest.mark.parametrize("objective", ["supervised", "preference"])
def test_the_gradient_is_the_slope_of_the_loss(trunk, objective):
    import torch

    made, given, factors = Loreft(3, objective), parameters(3).requires_grad_(True), (1.0,)
    with trunk.running():
        (gradient,) = torch.autograd.grad(made.terms(trunk, range(7), given, factors)[0].mean(), given)
        # rotation, weight and bias each by themselves
        for rows in (slice(0, 3), slice(3, 6), slice(6, 7)):
            along = torch.zeros_like(given)
            along[rows] = parameters(4)[rows]
            along[6, 3:] = 0.0
            ends = [
                float(made.terms(trunk, range(7), given.detach() + step * along, factors)[0].double().mean())
                for step in (4e-3, -4e-3)
            ]
            assert float((gradient * along).sum()) == pytest.approx((ends[0] - ends[1]) / 8e-3, rel=0.03, abs=2e-4)


def test_training_starts_where_nothing_is_edited_and_lowers_the_loss(trunk):
    import torch

    made = Loreft(rank=2)
    start = torch.from_numpy(made.start(WIDTH, 5))
    hidden = torch.ones(1, 1, WIDTH)
    torch.testing.assert_close(made.edit(start)(hidden), hidden)
    assert not np.array_equal(made.start(WIDTH, 6), made.start(WIDTH, 5))
    schedule = Schedule(epochs=12, warmup=0, learning_rate=0.02)
    trained = train_vector(trunk, made, schedule, validation=trunk.indices("train"))
    assert trained.best.validation_loss < trained.curve[0].validation_loss - 0.1
    fit = to_fit(trained, trunk, made, schedule)
    assert fit.operator == "low_rank"
    assert fit.lineage["objective"]["rank"] == 2


def test_signs_of_the_factor_do_not_jump():
    rows = parameters(7)[:3]
    found = orthonormal(rows)
    np.testing.assert_allclose((found @ found.T).numpy(), np.eye(3), atol=1e-6)
    # the first row keeps its direction
    np.testing.assert_allclose(found[0].numpy(), (rows[0] / rows[0].norm()).numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "rank is at least 1"),
        ({"objective": "grpo"}, "'supervised' or 'preference'"),
        ({"beta": 0.0}, "beta must be positive"),
        ({"positions": "somewhere"}, "positions 'somewhere' are unknown"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        check(options)


def test_a_rank_beyond_the_width_is_refused():
    with pytest.raises(ConfigError, match="rank 40 is more than the model's width, 32"):
        Loreft(rank=40).start(WIDTH, 0)


def test_on_the_embedded_model_answers_with_the_concept_become_likelier():
    from schemas.specs import ModelSpec
    from steer_core.models.loading import load_model

    loaded = load_model(ModelSpec(name="embedded", source="embedded"))
    options = {"rank": 2, "epochs": 6, "batch": 16, "learning_rate": 0.02}
    table = grammar_pairs("sentiment", 96, 32)
    ((point, fit),) = train(loaded, table, pl.DataFrame(), "sentiment", [Point(1)], 0, **options)
    assert (point, fit.operator) == (Point(1), "low_rank")
    assert fit.scalars["validation_loss"] < fit.lineage["curve"][0]["validation_loss"] - 0.02
    assert fit.scalars["validation_margin"] > fit.lineage["curve"][0]["margins"]["+1"]


def test_it_is_trained_at_the_positions_of_its_part(monkeypatch):
    from schemas.specs import ModelSpec
    from steer_core.models.loading import load_model
    from steer_core.vectors.estimators import loreft
    from steer_core.vectors.fit import fit_vectors

    seen = {}
    real = loreft.train

    def train(*args, positions="all", **options):
        seen["positions"] = positions
        return real(*args, positions=positions, **options)

    train.__signature__ = __import__("inspect").signature(real)
    monkeypatch.setattr(loreft, "train", train)
    loaded = load_model(ModelSpec(name="embedded", source="embedded"))
    pairs = grammar_pairs("sentiment", 8, 4)
    sides = [
        pairs.select(
            pl.format("{}-{}", "pair_id", pl.lit(label)).alias("example_id"), "concept", "pair_id",
            pl.lit(label, dtype=pl.Int64).alias("label"), "split", "messages", pl.col(side).alias("answer"),
            pl.lit("").alias("letter"), "source", "row",
        )
        for label, side in ((1, "chosen"), (0, "rejected"))
    ]  # fmt: skip
    part = VectorPart(estimator="loreft", options={"epochs": 1, "rank": 1}, layers=(1,), positions="completion")
    (found,) = fit_vectors(loaded, pl.concat(sides), part, halves=False)
    assert (seen["positions"], found.operator, found.concept) == ("completion", "low_rank", "sentiment")
