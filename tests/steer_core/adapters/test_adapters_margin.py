"""Weights of requests, and the term that makes gaps in log-likelihood proportional to gaps in reward."""

import itertools

import numpy as np
import pytest
import torch

from schemas.recipes import GrpoRecipe
from steer_core.adapters.margin import margin_loss
from steer_core.adapters.recipe import train
from steer_core.adapters.recipes.grpo import weights_of
from steer_core.adapters.rewards import Target
from steer_core.adapters.run import RunFolder
from steer_core.probes.weights import density_weights
from tests.steer_core.adapters.grpo_world import recipe, training


def test_gaps_are_held_against_the_mean_of_the_others():
    ratio = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64, requires_grad=True)
    rewards = torch.tensor([-0.2, -0.6, -0.1], dtype=torch.float64)
    weights = torch.ones(3, dtype=torch.float64)
    found = margin_loss(ratio, rewards, torch.zeros(3, dtype=torch.long), weights, tau=0.5)
    # by hand: the first is 0.5 - 0.5, asked (-0.2 + 0.35) / 0.5 = 0.3; the others likewise
    gaps = [0.0 - 0.3, (-1.0 - 1.25) - (-0.6 + 0.15) / 0.5, (2.0 + 0.25) - (-0.1 + 0.4) / 0.5]
    assert float(found.detach()) == pytest.approx(sum(g**2 for g in gaps) / 3)
    pairs = [
        (float((ratio[i] - ratio[j]).detach()) - float(rewards[i] - rewards[j]) / 0.5) ** 2
        for i, j in itertools.permutations(range(3), 2)
    ]
    assert np.mean(pairs) == pytest.approx(2 * 2 / 3 * float(found.detach()))
    found.backward()
    # a descent step closes the gaps: the second is too far below the others
    assert ratio.grad[1] < 0 < ratio.grad[2]


def test_what_has_no_reward_or_no_other_takes_no_part():
    ratio = torch.tensor([1.0, 3.0, 9.0, 7.0], requires_grad=True)
    rewards = torch.tensor([0.0, 0.5, float("nan"), 0.2])
    groups = torch.tensor([4, 4, 4, 2])
    found = margin_loss(ratio, rewards, groups, torch.tensor([1.0, 3.0, 1.0, 1.0]), tau=0.5)
    # gaps -2 + 1 and 2 - 1, weights 1 and 3, two of them
    assert float(found.detach()) == pytest.approx((1.0 + 3.0) / 2)
    found.backward()
    assert ratio.grad[2:].tolist() == [0.0, 0.0]
    alone = margin_loss(ratio.detach(), torch.tensor([0.0, 1.0, 2.0, 3.0]), torch.arange(4), torch.ones(4), tau=0.5)
    assert float(alone) == 0.0


def test_requests_weigh_as_their_texts_are_rare_in_the_pool():
    rng = np.random.default_rng(0)
    z = rng.beta(4, 2, size=(60, 2))
    targets = {f"r{i}-{k}": Target(f"text {i}", z[i], z[i]) for i in range(60) for k in range(2)}
    found = weights_of(GrpoRecipe(weights="linear", seed=3), targets)
    order = sorted(range(60), key=lambda i: f"text {i}")
    wanted = density_weights(z[order], "linear", np.random.default_rng(3)).weights * 60
    assert [found[f"r{i}-0"] for i in order] == pytest.approx(wanted)
    assert all(found[f"r{i}-0"] == found[f"r{i}-1"] for i in range(60))
    assert weights_of(GrpoRecipe(), targets) == {}


def test_a_run_weighs_and_minds_margins(tmp_path):
    more = {"steps": 2, "checkpoints": 1, "weights": "linear", "margin": 0.5}
    given = training(tmp_path / "run")
    # starts that differ, or there is nothing to weigh by
    given = training(tmp_path / "run", targets={
        r: Target(t.source, np.array([0.1 + 0.25 * k]), t.z_star) for k, (r, t) in enumerate(given.targets.items())
    })  # fmt: skip
    states = train(recipe(**more), given)
    assert sorted(states) == [2]
    run, weights = RunFolder(tmp_path / "run"), weights_of(recipe(**more), given.targets)
    assert len(set(weights.values())) > 1
    log = {(r["step"], r["measure"]): r["value"] for r in run.rows("log")}
    own = [s for s in run.rows("samples") if s["step"] == 1]
    rewards = np.array([s["reward"] for s in own]).reshape(2, 4)
    wanted = (rewards - rewards.mean(axis=1, keepdims=True)).ravel() * [weights[s["request_id"]] for s in own]
    assert [s["advantage"] for s in own] == pytest.approx(wanted, abs=1e-5)
    # at step 1 the model is its own reference: every gap in log-likelihood is 0
    others = (rewards.sum(axis=1, keepdims=True) - rewards) / 3
    by_hand = ((rewards - others) / 0.5).ravel() ** 2 * [weights[s["request_id"]] for s in own]
    assert log[1, "margin"] == pytest.approx(by_hand.mean(), rel=1e-4)
    assert log[1, "margin"] != pytest.approx(log[2, "margin"])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"beta": 0.0}, "`beta: 0` leaves that out"),
        ({"trl": {"gradient_accumulation_steps": 2}}, "needs whole groups in one pass"),
    ],
)
def test_margins_that_cannot_be_had_are_refused(more, message):
    with pytest.raises(ValueError, match=message):
        recipe(margin=1.0, **more)
