"""Conditions: the gate opens for the prompts that it was fitted for, by a rule found on prompts held out."""

import numpy as np
import pytest

from steer_core.tables.errors import ConfigError, SteerworksError
from steer_core.vectors import condition as room
from steer_core.vectors.condition import fit_condition


def prompts(n=30, d=64, layers=4, good=2, seed=0, gap=6.0):
    """Prompts whose class can be told at one layer only; fewer than dimensions, so that any direction fits its own."""
    rng = np.random.default_rng(seed)
    offset = 2.0 * rng.normal(size=d)
    axis = rng.normal(size=d)
    axis *= gap / np.linalg.norm(axis)
    positive = {at: offset + rng.normal(size=(n, d)) + (axis if at == good else 0.0) for at in range(layers)}
    negative = {at: offset + rng.normal(size=(n + 5, d)) for at in range(layers)}
    return positive, negative


def cosines(rows, direction):
    return rows @ direction / np.linalg.norm(rows, axis=1) / np.linalg.norm(direction)


@pytest.mark.parametrize("method", ["mean_difference", "pca"])
@pytest.mark.parametrize("criterion", ["f1", "balanced_accuracy"])
def test_the_layer_that_tells_the_prompts_apart_is_found_and_the_gate_opens_for_new_ones(method, criterion):
    found = fit_condition(*prompts(), concept="harmful", model="m", method=method, criterion=criterion)
    assert found.gate.layer == found.vector.layer == 2
    assert found.score > 0.9
    new_positive, new_negative = (side[2] for side in prompts(n=200, seed=0))
    direction = found.vector.direction.astype(float)
    assert (cosines(new_positive[30:], direction) >= found.gate.threshold).mean() > 0.9
    assert (cosines(new_negative[35:], direction) < found.gate.threshold).mean() > 0.9


def test_layers_that_tell_nothing_score_like_chance_though_a_direction_parts_its_own_prompts():
    positive, negative = prompts()
    found = fit_condition(positive, negative, concept="harmful", model="m")
    assert set(found.scores) == {0, 1, 2, 3}
    for at in (0, 1, 3):
        assert found.scores[at] < 0.75
        own = room._direction(positive[at], negative[at], room.Point(at), "harmful", "mean_difference")
        in_sample = cosines(np.concatenate([positive[at], negative[at]]), own)
        assert room._search(in_sample, np.arange(65) < 30, "balanced_accuracy", None).score > 0.85


def test_the_vector_and_the_gate_belong_together():
    found = fit_condition(*prompts(), concept="harmful", model="m1", above=False, template="t")
    assert found.gate.vector == found.vector.id
    assert found.gate.above is False
    assert (found.vector.model, found.vector.template, found.vector.read) == ("m1", "t", "prompt")
    assert (found.vector.n_positive, found.vector.n_negative) == (30, 35)
    assert found.vector.lineage["balanced_accuracy"] == found.score


@pytest.mark.parametrize("criterion", ["f1", "balanced_accuracy"])
def test_the_threshold_is_the_best_of_all(criterion):
    from sklearn.metrics import balanced_accuracy_score, f1_score

    rng = np.random.default_rng(1)
    values = np.round(np.concatenate([rng.normal(0.3, 0.2, 25), rng.normal(0.0, 0.2, 40)]), 2)  # with ties
    labels = np.arange(65) < 25
    found = room._search(values, labels, criterion, None)
    score = f1_score if criterion == "f1" else balanced_accuracy_score
    best = max(score(labels, values >= t) for t in np.linspace(-0.5, 1, 301))
    assert found.score == pytest.approx(best)
    assert score(labels, values >= found.threshold) == pytest.approx(best)


def test_among_equal_thresholds_the_middle_of_the_widest_gap_is_taken():
    found = room._search(np.array([0.1, 0.2, 0.9, 0.95]), np.array([False, False, True, True]), "f1", None)
    assert found.threshold == pytest.approx(0.55)
    assert found.score == 1.0


def test_layer_and_threshold_may_be_given():
    positive, negative = prompts()
    given = fit_condition(positive, negative, concept="harmful", model="m", layer=1, threshold=0.2)
    assert (given.gate.layer, given.gate.threshold) == (1, 0.2)
    searched = fit_condition(positive, negative, concept="harmful", model="m", layer=1)
    assert given.score <= searched.score


def test_the_same_seed_gives_the_same_condition():
    one, other = (fit_condition(*prompts(), concept="harmful", model="m", seed=7) for _ in range(2))
    assert one.gate == other.gate


def test_what_cannot_be_fitted_is_named():
    positive, negative = prompts()
    with pytest.raises(SteerworksError, match=r"read at layers \[0, 1, 2, 3\], the others at \[2\]"):
        fit_condition(positive, {2: negative[2]}, concept="harmful", model="m")
    with pytest.raises(SteerworksError, match="1 prompts meet it and 35 do not"):
        fit_condition({2: positive[2][:1]}, {2: negative[2]}, concept="harmful", model="m")
    with pytest.raises(ConfigError, match="layer 9 was not read"):
        fit_condition(positive, negative, concept="harmful", model="m", layer=9)
    with pytest.raises(ConfigError, match="criterion 'auc'"):
        fit_condition(positive, negative, concept="harmful", model="m", criterion="auc")
    with pytest.raises(SteerworksError, match="'harmful' at layer 0"):
        fit_condition({0: positive[0]}, {0: positive[0]}, concept="harmful", model="m", folds=2)
