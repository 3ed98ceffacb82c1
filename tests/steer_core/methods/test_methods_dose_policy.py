"""How much a vector is asked for is picked on the training pool, by the error of all goals."""

import numpy as np
import pytest

from steer_core.methods.doses.inversion import DoseCurve
from steer_core.methods.doses.policy import FLOORS, SHARES, Landings, Policy, choose_policy

STRENGTHS = (-2.0, -1.0, 1.0, 2.0)
#: Each unit of strength moves the goal by .2.
CURVE = DoseCurve((-2.0, -1.0, 0.0, 1.0, 2.0), (-0.4, -0.2, 0.0, 0.2, 0.4))


def landings(asked, unsteered, side=0.0, noise=None):
    """Where answers land on a goal that is asked and one that is not, which a dose moves by `side` of its strength."""
    wanted = np.stack([np.full(len(asked), 0.5) + asked, np.full(len(asked), 0.5)], axis=1)
    at = {}
    for s in (None, *STRENGTHS):
        dose = s or 0.0
        moved = np.stack([0.5 + unsteered + 0.2 * dose, np.full(len(asked), 0.5 + side * dose)], axis=1)
        at[s] = moved if noise is None else moved + noise
    return Landings(wanted, at)


def labels(n):
    return np.array([f"t{i}" for i in range(n)])


def test_a_vector_without_side_effects_is_asked_for_all_that_is_left():
    asked = np.tile([0.3, -0.3], 16)
    found = choose_policy(CURVE, asked, landings(asked, np.zeros(32)), labels(32))
    assert (found.share, found.floor, found.dosed) == (1.0, 0.0, 1.0)
    assert found.gain == pytest.approx(0.3)


def test_side_effects_make_it_ask_for_less():
    asked = np.tile([0.3, -0.3], 16)
    found = choose_policy(CURVE, asked, landings(asked, np.zeros(32), side=0.15), labels(32))
    # the best dose of all solves d(.3 - .2 s)^2 + (.15 s)^2 = 0: s = .96 of the 1.5 that all of it takes
    assert found.share == 0.75
    assert 0 < found.gain < 0.3


def test_small_rests_are_left_alone_where_they_cost_more_than_they_give():
    # of most texts the fit says that a little is left, and nothing is
    left = np.concatenate([np.tile([0.4, -0.4], 8), np.tile([0.05, -0.05], 24)])
    asked = np.where(np.abs(left) > 0.1, left, 0.0)
    found = choose_policy(CURVE, left, landings(asked, np.zeros(64)), labels(64))
    assert (found.share, found.floor) == (1.0, 0.1)
    assert found.dosed == pytest.approx(0.25)


def test_a_vector_that_does_not_help_gets_no_dose():
    asked = np.tile([0.3, -0.3], 16)
    deaf = landings(asked, np.zeros(32))
    for s in STRENGTHS:
        deaf.at[s][:] = deaf.at[None] + [0.0, 0.1]
    found = choose_policy(CURVE, asked, deaf, labels(32))
    assert (found.share, found.dosed) == (0.0, 0.0)
    assert found.gain < 0
    assert found.asks(0.3) == 0.0


def test_what_noise_alone_gains_is_seldom_taken_for_help():
    # doses that only scatter answers on the goal itself: the best of all policies is picked, and noise helps some
    taken = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        asked = rng.choice([-1, 1], 32) * rng.uniform(0.1, 0.7, 32)
        world = landings(asked, rng.normal(0, 0.2, 32))
        for s in STRENGTHS:
            world.at[s][:] = world.at[None] + rng.normal(0, 0.2, (32, 2))
        taken += choose_policy(CURVE, asked, world, labels(32)).share > 0
    # a rule of one standard error lets 16 % of single policies pass; scatter makes things worse on average
    assert taken <= 20


def test_failed_answers_count_as_far_off_as_can_be():
    asked = np.tile([0.3, -0.3], 16)
    world = landings(asked, np.zeros(32))
    for s in STRENGTHS:
        world.at[s][::4] = np.nan
    errors = world.errors([1.0] * 32)
    assert errors[0] == pytest.approx(np.hypot(0.8, 0.5))
    assert errors[1] == pytest.approx(np.hypot(0.5, 0.0))
    assert choose_policy(CURVE, asked, world, labels(32)).gain < 0.3


def test_errors_between_strengths_follow_the_positions():
    world = landings(np.array([0.3]), np.zeros(1))
    # halfway between 1 and 2 the answer is right on target, which the mean of the two errors would not say
    assert world.errors([1.5]) == pytest.approx([0.0])
    assert world.errors([1.0]) == pytest.approx([0.1])
    assert world.errors([0.5]) == pytest.approx([0.2])
    assert world.errors([None]) == pytest.approx([0.3])


def test_what_is_asked_is_a_share_of_what_is_left_from_the_floor_on():
    policy = Policy(0.5, 0.2)
    assert [policy.asks(x) for x in (0.1, -0.1, 0.2, -0.6)] == [0.0, 0.0, 0.1, -0.3]
    assert max(SHARES) == 1.0
    assert min(FLOORS) == 0.0
