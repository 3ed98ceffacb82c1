"""A setting chosen on half of the items: what it is on the other half is not too good, and its interval covers."""

import numpy as np
import polars as pl
import pytest
from test_profiles_changes import items_table, values_table

from schemas.profiles import PLAIN
from steer_core.evaluation.profiles.halves import chosen_on_half, halves
from steer_core.tables.errors import SteerworksError

ARMS = [f"s{k}" for k in range(6)]


def choose(by_arm, clusters=None, better=1):
    n = len(next(iter(by_arm.values())))
    values = values_table({arm: {"m": rows} for arm, rows in by_arm.items()})
    return chosen_on_half(
        values, items_table(range(n) if clusters is None else clusters), ARMS, profile="p", metric="m", better=better
    )


def test_halves_are_disjoint_of_whole_clusters_and_the_same_whoever_asks():
    one, other = halves([str(k) for k in range(21)])
    assert (len(one), len(other)) == (11, 10)
    assert not one & other
    assert halves([str(k) for k in reversed(range(21))] * 2) == (one, other)


def test_the_best_of_deaf_settings_is_too_good_on_the_half_that_chose_and_not_on_the_other():
    rng = np.random.default_rng(0)
    chosen, held, covered, beats = [], [], 0, 0
    for _ in range(400):
        found = choose({arm: rng.normal(1.0, 0.5, 24) for arm in (PLAIN, *ARMS)})
        chosen.append(found.choosing)
        held.append(found.held_out.value)
        covered += found.held_out.low <= 1.0 <= found.held_out.high
        beats += found.difference.low > 0.0 or found.difference.high < 0.0
    # expected largest of six means with standard error .5 / sqrt(12): 1.27 of them
    assert np.mean(chosen) - 1.0 == pytest.approx(1.27 * 0.5 / 12**0.5, abs=0.02)
    assert np.mean(held) == pytest.approx(1.0, abs=0.025)
    # 95 % of 400 are 380; 5 % are 20, and more than 30 have a chance of .01
    assert covered >= 370
    assert beats <= 30


def test_the_best_setting_is_found_and_told_by_the_other_half_alone():
    n = 12
    base = np.zeros(n)
    shifted = {PLAIN: base, **{arm: base + 0.1 * k for k, arm in enumerate(ARMS)}}
    found = choose(shifted)
    assert found.arm_id == "s5"
    assert (found.choosing, found.held_out.value, found.difference.value) == pytest.approx((0.5, 0.5, 0.5))
    assert found.held_out.n == n // 2
    assert choose(shifted, better=-1).arm_id == "s0"


def test_who_breaks_the_judge_is_not_chosen_for_it():
    rng = np.random.default_rng(1)
    good = rng.uniform(1.0, 1.2, 20)
    good[::5] = 0.0
    broken = np.where(np.arange(20) % 4 == 0, 2.0, np.nan)
    assert choose({PLAIN: good, "s0": good, "s1": broken}).arm_id == "s0"


def test_nothing_to_choose_from_is_none_and_a_direction_is_needed():
    assert choose({PLAIN: np.ones(4)}) is None
    assert choose({PLAIN: np.ones(4), "s0": np.full(4, np.nan)}) is None
    with pytest.raises(SteerworksError, match="better = 0"):
        choose({PLAIN: np.ones(4)}, better=0)
    values = values_table({PLAIN: {"m": np.ones(4)}}).with_columns(item_id=pl.lit("unknown"))
    with pytest.raises(SteerworksError, match="does not have"):
        chosen_on_half(values, items_table(range(4)), ARMS, profile="p", metric="m")
