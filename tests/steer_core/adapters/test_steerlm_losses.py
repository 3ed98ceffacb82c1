"""Losses, heads and weights of SteerLM against hand computations and published values."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.steerlm import HELPSTEER, AttributeSet, AttributeSpec
from steer_core.adapters.steerlm.beta import level_edges, level_probabilities, log_probability
from steer_core.adapters.steerlm.losses import distillation, masked_mse, preference_loss
from steer_core.adapters.steerlm.ordinal import (
    CumulativeLinkHead,
    expected_level,
    level_log_probabilities,
    ordinal_loss,
)
from steer_core.adapters.steerlm.weights import (
    divergence,
    effective_sample_size,
    limited,
    model_weights,
    sample_weights,
)

NAN = float("nan")
HELPFULNESS = AttributeSpec(name="helpfulness")


def sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))


def test_masked_squares_count_what_is_known_and_nothing_else():
    predicted = torch.tensor([[1.0, 2.0], [3.0, 5.0]], requires_grad=True)
    target = torch.tensor([[0.0, NAN], [1.0, 2.0]])
    loss = masked_mse(predicted, target)
    assert loss.item() == pytest.approx((1 + 4 + 9) / 3)
    loss.backward()
    assert predicted.grad[0, 1] == 0.0
    assert predicted.grad.tolist()[1] == pytest.approx([2 * 2 / 3, 2 * 3 / 3])


def test_a_batch_without_a_known_target_is_an_error_and_no_zero():
    for loss in (
        lambda t: masked_mse(torch.zeros(2, 2), t),
        lambda t: ordinal_loss(torch.zeros(2, 2, 5), t, torch.zeros(2)),
    ):
        with pytest.raises(ValueError, match="none of the 4 targets"):
            loss(torch.full((2, 2), NAN))
    with pytest.raises(ValueError, match="shape"):
        masked_mse(torch.zeros(2, 3), torch.zeros(2, 2))


def test_preference_losses_are_those_of_the_formulas():
    chosen, rejected, strength = torch.tensor([1.0, 0.0]), torch.tensor([0.5, 2.0]), torch.tensor([3.0, 1.0])
    a, b = -math.log(sigmoid(0.5)), -math.log(sigmoid(-2.0))
    assert preference_loss(chosen, rejected).item() == pytest.approx((a + b) / 2)
    margin = (-math.log(sigmoid(0.5 - 3)) - math.log(sigmoid(-2 - 1))) / 2
    assert preference_loss(chosen, rejected, strength, kind="margin").item() == pytest.approx(margin)
    assert preference_loss(chosen, rejected, strength, kind="scaled").item() == pytest.approx((3 * a + b) / 2)


def test_ties_and_missing_strengths_are_refused():
    two = torch.zeros(2)
    with pytest.raises(ValueError, match="leave ties out"):
        preference_loss(two, two, torch.tensor([1.0, 0.0]), kind="scaled")
    with pytest.raises(ValueError, match="needs the strength"):
        preference_loss(two, two, kind="margin")
    with pytest.raises(ValueError, match="pairs"):
        preference_loss(torch.zeros(0), torch.zeros(0))


def test_beta_probabilities_are_the_published_ones():
    found = level_probabilities(np.array([2.5, 2.0]), HELPFULNESS)
    assert found[0] == pytest.approx([0, 0.0065, 0.4794, 0.5129, 0.0012], abs=5e-5)
    assert found[1] == pytest.approx([0, 0.109, 0.782, 0.109, 0], abs=5e-4)
    fifths = level_probabilities(np.array(2.5), HELPFULNESS, edges="fifths")
    assert fifths == pytest.approx([0, 0.0128, 0.3755, 0.5843, 0.0273], abs=5e-5)


def test_edges_are_those_of_rounding_or_equal_shares():
    assert level_edges(5).tolist() == [0, 1 / 8, 3 / 8, 5 / 8, 7 / 8, 1]
    assert level_edges(5, "fifths") == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    with pytest.raises(ValueError, match="two"):
        level_edges(1)


@pytest.mark.parametrize("edges", ["rounding", "fifths"])
def test_beta_probabilities_sum_to_one_and_are_symmetric_and_finite_at_the_ends(edges):
    spec = AttributeSpec(name="mood", low=-2, high=2)
    at = np.linspace(-3, 3, 61)
    found = level_probabilities(at, spec, edges=edges)
    assert found.sum(-1) == pytest.approx(np.ones(61))
    assert found == pytest.approx(found[::-1, ::-1], rel=1e-6)
    # even what is far away keeps its digits, so that its logarithm is one
    assert (found > 0).all()
    with pytest.raises(ValueError, match="finite"):
        level_probabilities(np.array([np.nan]), spec)


def test_far_levels_agree_with_an_integral_of_the_density():
    from scipy.integrate import quad
    from scipy.stats import beta

    density = beta(24 * 0.9, 24 * 0.1).pdf
    by_hand = quad(density, 0, 1 / 8, epsabs=0)[0]
    assert level_probabilities(np.array(3.6), HELPFULNESS)[0] == pytest.approx(by_hand, rel=1e-6)
    by_hand = quad(beta(24 * 0.1, 24 * 0.9).pdf, 7 / 8, 1, epsabs=0)[0]
    assert level_probabilities(np.array(0.4), HELPFULNESS)[4] == pytest.approx(by_hand, rel=1e-6)


def test_attributes_that_are_not_asked_for_cost_nothing():
    predicted = np.array([[2.5, 2.0, 0, 0, 0], [2.0, 2.0, 0, 0, 0]])
    asked = np.array([2, NAN, NAN, NAN, NAN])
    found = log_probability(predicted, asked, HELPSTEER)
    assert found == pytest.approx([math.log(0.4794), math.log(0.782)], abs=1e-3)
    both = log_probability(predicted, np.array([2, 2, NAN, NAN, NAN]), HELPSTEER)
    assert both - found == pytest.approx([math.log(0.782)] * 2, abs=1e-3)
    with pytest.raises(ValueError, match="no level"):
        log_probability(predicted, np.array([7, NAN, NAN, NAN, NAN]), HELPSTEER)


LOG_A, LOG_Y = np.array([-2.0, -1, -4]), np.array([-50.0, -55, -48])
LOG_OLD, LOG_NEW = np.array([-49.0, -54, -47.5]), np.array([-48.5, -54.5, -47])
W, B = (0.253716, 0.689672, 0.056612), (0.422319, 0.155362, 0.422319)


def test_weights_and_divergence_are_the_published_ones():
    w, b = sample_weights(LOG_A, LOG_Y, LOG_OLD), model_weights(LOG_NEW, LOG_OLD)
    assert w == pytest.approx(W, abs=1e-6)
    assert b == pytest.approx(B, abs=1e-6)
    assert w - b == pytest.approx([-0.168603, 0.534310, -0.365707], abs=1e-6)
    assert divergence(w, b) == pytest.approx(0.784882, abs=1e-6)
    assert effective_sample_size(w) == pytest.approx(1 / sum(x * x for x in W), rel=1e-5)


def test_the_gradient_pushes_up_what_is_lacking_and_down_what_is_too_much():
    log_q = torch.tensor(LOG_NEW)[None].clone().requires_grad_(True)
    w = torch.tensor(sample_weights(LOG_A, LOG_Y, LOG_OLD))[None]
    found = distillation(log_q, torch.tensor(LOG_OLD)[None], w, torch.tensor([[10.0, 20.0, 30.0]], dtype=torch.float64))
    found.loss.backward()
    assert -log_q.grad[0].numpy() * 20 == pytest.approx(np.array([-0.168603, 0.534310, -0.365707]), abs=1e-6)
    assert found.divergence.item() == pytest.approx(0.784882, abs=1e-6)
    assert found.model_weights[0].tolist() == pytest.approx(B, abs=1e-6)


def test_the_gradient_is_that_of_the_divergence():
    log_q = torch.tensor(LOG_NEW)[None].clone().requires_grad_(True)
    w = torch.tensor(sample_weights(LOG_A, LOG_Y, LOG_OLD))[None]
    (-(w * (log_q - torch.tensor(LOG_OLD)).log_softmax(1)).sum()).backward()
    of_divergence = log_q.grad.clone()
    log_q.grad = None
    distillation(log_q, torch.tensor(LOG_OLD)[None], w, torch.ones(1, 3, dtype=torch.float64)).loss.backward()
    assert torch.allclose(log_q.grad, of_divergence)


def test_prompts_with_fewer_answers_are_as_if_alone():
    old = torch.tensor([[*LOG_OLD, math.inf]])
    new = torch.tensor([[*LOG_NEW, 0.0]], requires_grad=True)
    w = torch.tensor([[*sample_weights(LOG_A, LOG_Y, LOG_OLD), 0.0]])
    found = distillation(new, old, w, torch.tensor([[10.0, 20.0, 30.0, 0.0]], dtype=torch.float64))
    found.loss.backward()
    assert new.grad[0].numpy() * -20 == pytest.approx(np.array([-0.168603, 0.534310, -0.365707, 0.0]), abs=1e-6)
    assert found.divergence.item() == pytest.approx(0.784882, abs=1e-6)


def test_weights_that_are_none_are_refused():
    one = torch.tensor([[-1.0, -2.0]])
    tokens = torch.ones(1, 2)
    for bad, message in (
        ((one, one, torch.tensor([[0.5, 0.6]]), tokens), "1 in sum"),
        ((one, one, torch.tensor([[1.5, -0.5]]), tokens), "0 or more"),
        ((one, torch.tensor([[math.nan, 0.0]]), torch.tensor([[0.5, 0.5]]), tokens), "not finite"),
        ((one, one[0], torch.tensor([[0.5, 0.5]]), tokens), "shapes"),
    ):
        with pytest.raises(ValueError, match=message):
            distillation(*bad)
    with pytest.raises(ValueError, match="finite"):
        sample_weights(np.array([-np.inf, 0.0]), np.zeros(2), np.zeros(2))
    with pytest.raises(ValueError, match="shapes"):
        sample_weights(np.zeros(2), np.zeros(3), np.zeros(2))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-30, 30), min_size=2, max_size=8), st.floats(0.05, 1.0))
def test_limited_weights_sum_to_one_and_none_is_above_the_limit(logs, share):
    weights = sample_weights(np.array(logs), np.zeros(len(logs)), np.zeros(len(logs)))
    most = 1 / len(logs) + share * (1 - 1 / len(logs))
    found = limited(weights, most)
    assert found.sum() == pytest.approx(1.0)
    assert (found <= most + 1e-12).all()
    assert effective_sample_size(found) >= effective_sample_size(weights) - 1e-9


def test_limits_by_hand():
    assert limited(np.array([0.8, 0.15, 0.05]), 0.6) == pytest.approx([0.6, 0.3, 0.1])
    # what is shared out may push the next one over
    assert limited(np.array([0.8, 0.16, 0.04]), 0.45) == pytest.approx([0.45, 0.44, 0.11])
    assert limited(np.array([0.8, 0.19, 0.01]), 0.45) == pytest.approx([0.45, 0.45, 0.10])
    with pytest.raises(ValueError, match="cannot sum to 1"):
        limited(np.array([0.5, 0.5]), 0.4)


def test_cumulative_links_are_differences_of_logistics():
    scores = torch.tensor([[0.3], [-40.0]], dtype=torch.float64)
    thresholds = torch.tensor([[-1.0, 0.5, 2.0]], dtype=torch.float64)
    found = level_log_probabilities(scores, thresholds, torch.tensor([4])).exp()
    at = [sigmoid(t - 0.3) for t in (-1.0, 0.5, 2.0)]
    assert found[0, 0].tolist() == pytest.approx([at[0], at[1] - at[0], at[2] - at[1], 1 - at[2]])
    # where differences of logistics are 0 in floating point, logarithms are finite
    far = level_log_probabilities(scores, thresholds, torch.tensor([4]))[1, 0]
    assert far[3].item() == pytest.approx(-42.0, abs=1e-9)
    assert far[2].item() == pytest.approx(-40.5 + math.log(-math.expm1(-1.5)), abs=1e-9)


def test_attributes_with_fewer_levels_have_no_probability_beyond_them():
    scores, thresholds = torch.zeros(1, 2), torch.tensor([[-1.0, 0.0, 1.0], [0.5, 9.0, 9.5]])
    found = level_log_probabilities(scores, thresholds, torch.tensor([4, 2])).exp()[0]
    assert found.sum(1).tolist() == pytest.approx([1.0, 1.0])
    assert found[1].tolist() == pytest.approx([sigmoid(0.5), 1 - sigmoid(0.5), 0.0, 0.0])


def test_the_ordinal_loss_is_the_mean_log_probability_of_known_levels():
    log_p = torch.tensor([[[0.2, 0.5, 0.3], [0.6, 0.4, 0.0]]]).log()
    lowest = torch.tensor([-1.0, 0.0])
    assert ordinal_loss(log_p, torch.tensor([[0.0, 1.0]]), lowest).item() == pytest.approx(
        -(math.log(0.5) + math.log(0.4)) / 2
    )
    assert ordinal_loss(log_p, torch.tensor([[1.0, NAN]]), lowest).item() == pytest.approx(-math.log(0.3))
    assert expected_level(log_p, lowest)[0].tolist() == pytest.approx([0.1, 0.4])
    for bad in ([[2.0, 1.0]], [[0.5, 1.0]], [[0.0, 2.0]], [[-2.0, 1.0]]):
        with pytest.raises(ValueError, match="no level"):
            ordinal_loss(log_p, torch.tensor(bad), lowest)


def test_the_ordinal_head_learns_levels_that_a_score_orders():
    torch.manual_seed(0)
    attributes = AttributeSet(attributes=(AttributeSpec(name="a", low=-2, high=2), AttributeSpec(name="b", high=1)))
    head = CumulativeLinkHead(3, attributes)
    assert (head.thresholds().diff(dim=1) > 0).all()
    hidden = torch.randn(400, 3)
    target = torch.stack([(1.5 * hidden[:, 0]).round().clamp(-2, 2), (hidden[:, 1] > 0.5).float()], dim=1)
    lowest = torch.tensor([-2.0, 0.0])
    optimizer = torch.optim.Adam(head.parameters(), lr=0.1)
    first = ordinal_loss(head(hidden), target, lowest).item()
    for _ in range(150):
        optimizer.zero_grad()
        loss = ordinal_loss(head(hidden), target, lowest)
        loss.backward()
        optimizer.step()
    found = head(hidden)
    assert loss.item() < first / 3
    assert ((found.argmax(-1) + lowest) == target).float().mean() > 0.93
    assert torch.allclose(found.exp().sum(-1), torch.ones(400, 2), atol=1e-5)
