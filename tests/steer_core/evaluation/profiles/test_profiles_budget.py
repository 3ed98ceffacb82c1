"""The strongest arm that a budget allows: how often it costs more than that, and that it is found where there is one."""

import numpy as np
import polars as pl
import pytest
from scipy.stats import beta
from test_profiles_changes import items_table, values_table

from schemas.profiles import PLAIN
from steer_core.evaluation.profiles.changes import strongest_within
from steer_core.tables.errors import SteerworksError

BUDGET = 0.05
#: Worlds a setting of the simulation.
WORLDS = 400
METRIC = "right answers"


def chosen(by_arm, clusters, **options):
    """What is allowed of arms at strengths 1, 2 ..."""
    values = values_table({arm: {METRIC: v} for arm, v in by_arm.items()})
    positions = {arm: float(k) for k, arm in enumerate(by_arm)}
    del positions[PLAIN]
    options = {"profile": "p", "metric": METRIC, "budget": BUDGET} | options
    return strongest_within(values, items_table(clusters), positions, **options)


def losing(n, n_lost):
    """A plain model that is right everywhere, and an arm that lost so many of its answers."""
    arm = np.ones(n)
    arm[:n_lost] = 0.0
    return {PLAIN: np.ones(n), "a": arm}


@pytest.mark.parametrize("n_lost", range(6))
def test_few_losses_of_60_give_the_exact_binomial_bound_to_within_a_hundredth(n_lost):
    (found,) = chosen(losing(60, n_lost), range(60)).looked_at
    exact = beta.ppf(0.95, n_lost + 1, 60 - n_lost)
    assert exact <= found.most <= exact + 0.01
    assert found.loss == pytest.approx(n_lost / 60)


def test_no_loss_is_no_proof_of_none_and_its_bound_falls_with_the_clusters():
    most = [chosen(losing(n, 0), np.arange(n) // size).looked_at[0].most for n, size in ((400, 1), (400, 4), (60, 4))]
    assert 0.0 < most[0] < most[1] < BUDGET < most[2]


def answers(rng, n, size, losses, discordant):
    """0/1 answers of the plain model, right in half of items, and of arms that change some; half of a cluster together.

    `discordant`: share of items that an arm answers otherwise, at the least.
    """
    plain = rng.random(n) < 0.5
    losses = np.array(losses)[:, None]
    share = np.maximum(discordant, losses)
    together = np.repeat(rng.random((len(losses), n // size)), size, axis=1)
    own = rng.random((len(losses), n))
    u = np.where(rng.random(own.shape) < 0.5, together, own)
    changed = u < np.where(plain, share + losses, share - losses)
    return np.vstack([plain, plain ^ changed]).astype(float)


@pytest.mark.parametrize(
    ("n", "size", "discordant", "losses", "power"),
    [
        (60, 1, 0.0, (0.0, 0.01, 0.05, 0.10), 0.9),
        (120, 1, 0.0, (0.01, 0.02, 0.06, 0.10), 0.5),
        (400, 1, 0.2, (0.01, 0.02, 0.06, 0.10), 0.3),
        (400, 4, 0.0, (0.01, 0.02, 0.05, 0.10), 0.5),
        # an arm in the middle costs more than the one behind it
        (400, 1, 0.0, (0.01, 0.06, 0.02, 0.10), 0.9),
    ],
)
def test_the_chosen_arm_costs_more_than_the_budget_in_at_most_5_percent_of_worlds(n, size, discordant, losses, power):
    rng = np.random.default_rng(n + size)
    items = items_table(np.arange(n) // size)
    positions = {f"a{k}": float(k + 1) for k in range(len(losses))}
    table = values_table({arm: {METRIC: np.zeros(n)} for arm in (PLAIN, *positions)})
    wrong = some = 0
    for _ in range(WORLDS):
        values = table.with_columns(value=pl.Series(answers(rng, n, size, losses, discordant).ravel()))
        found = strongest_within(values, items, positions, profile="p", metric=METRIC, budget=BUDGET)
        some += found.arm_id is not None
        wrong += found.arm_id is not None and losses[int(found.arm_id[1:])] >= BUDGET
    assert wrong <= 0.05 * WORLDS
    assert some >= power * WORLDS


def test_arms_are_looked_at_by_size_up_to_the_first_that_is_not_borne():
    n = 400
    arms = {PLAIN: np.ones(n), "weak": np.ones(n), "bad": losing(n, 100)["a"], "good": np.ones(n)}
    found = chosen(arms, range(n))
    assert found.arm_id == "weak"
    assert [one.arm_id for one in found.looked_at] == ["weak", "bad"]
    assert [one.within for one in found.looked_at] == [True, False]
    values = values_table({arm: {METRIC: v} for arm, v in arms.items()})
    signed = strongest_within(
        values, items_table(range(n)), {"weak": 1.0, "good": -0.5}, profile="p", metric=METRIC, budget=BUDGET
    )
    assert [one.position for one in signed.looked_at] == [-0.5, 1.0]
    assert signed.arm_id == "weak"


def test_a_gain_where_less_is_better_is_no_loss():
    n = 200
    fewer = {PLAIN: np.ones(n), "a": losing(n, 60)["a"]}
    assert chosen(fewer, range(n)).arm_id is None
    assert chosen(fewer, range(n), better=-1).arm_id == "a"
    assert chosen(fewer, range(n), better=-1).looked_at[0].loss == pytest.approx(-0.3)


def test_a_metric_that_is_no_share_has_no_budget():
    # two clusters of a rating up to 2 that never moved: without a bound of what can be lost that would be proof
    arms = {PLAIN: np.full(2, 2.0), "a": np.full(2, 2.0)}
    with pytest.raises(SteerworksError, match=r"goes beyond \[0, 1\]"):
        chosen(arms, range(2))


def test_what_has_no_value_under_steering_is_lost_and_what_never_had_one_is_no_pair():
    n = 120
    half = np.where(np.arange(n) < 60, 1.0, np.nan)
    found = chosen({PLAIN: np.ones(n), "a": half}, range(n))
    assert found.arm_id is None
    assert (found.looked_at[0].loss, found.looked_at[0].n_clusters) == (0.5, n)
    # less is better: the worst of a share is 1
    assert chosen({PLAIN: np.zeros(n), "a": np.full(n, np.nan)}, range(n), better=-1).looked_at[0].loss == 1.0
    assert chosen({PLAIN: half, "a": np.ones(n)}, range(n)).looked_at[0].n_clusters == 60
    nothing = chosen({PLAIN: np.full(n, np.nan), "a": np.ones(n)}, range(n))
    assert (nothing.arm_id, nothing.looked_at[0].loss, nothing.looked_at[0].most) == (None, None, None)


@pytest.mark.parametrize("budget", [0.0, -0.1, float("nan")])
def test_a_budget_that_is_not_above_0_is_refused(budget):
    with pytest.raises(SteerworksError, match="a budget of"):
        chosen(losing(10, 0), range(10), budget=budget)


@pytest.mark.parametrize("of", [{"metric": "corect"}, {"profile": "q"}])
def test_a_metric_that_nobody_measured_is_named(of):
    with pytest.raises(
        SteerworksError, match=f"no value of metric {of.get('metric', METRIC)!r} of profile {of.get('profile', 'p')!r}"
    ):
        chosen(losing(10, 0), range(10), **of)
