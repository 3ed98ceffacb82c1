"""Rewards against the ruler and against sums by hand; failures at their worst, and nothing that is undefined as 0."""

import numpy as np
import polars as pl
import pytest

from schemas.recipes import GrpoRecipe
from steer_core.adapters.keeping import extremes, pareto
from steer_core.adapters.rewards import Answer, Rewarder, Target
from steer_core.evaluation.controls import worst_error, worst_miscalibration
from steer_core.evaluation.steerability import continuous_scores
from steer_core.tables.errors import ConfigError

GOALS = ("a", "b")
#: text -> position; None: undefined.
PLACES = {"near": (0.6, 0.4), "far": (0.1, 0.9), "odd": (0.5, None), "the cat": (0.2, 0.5), "the cat sat": (0.3, 0.5)}
TARGETS = {
    "r": Target("the cat sat", np.array([0.3, 0.5]), np.array([0.7, np.nan])),
    "s": Target("a dog", np.array([0.9, 0.2]), np.array([0.1, 0.6])),
}


def ruler(texts):
    return [dict(zip(GOALS, PLACES[t], strict=True)) for t in texts]


def rewarder(**recipe):
    return Rewarder(GrpoRecipe.model_validate(recipe), GOALS, TARGETS, ruler)


def answer(request, text, failure=None, raw=None):
    return Answer(request, raw or text, text, "length" if failure == "truncated" else "stop", failure)


ANSWERS = [answer("r", "near"), answer("s", "near"), answer("r", "far"), answer("s", "far"), answer("r", "the cat")]
EVERY = {"steering_error": 1.0, "miscalibration": 0.5, "orthogonality": 0.25, "goal:b": 0.0, "meaning": 0.0}


def test_errors_are_those_of_the_ruler_row_by_row():
    found = rewarder(rewards=EVERY)
    scored = found.score(ANSWERS)
    z0 = np.stack([TARGETS[a.request_id].z0 for a in ANSWERS])
    z_star = np.stack([TARGETS[a.request_id].z_star for a in ANSWERS])
    z_hat = np.array([PLACES[a.text] for a in ANSWERS])
    wanted = continuous_scores(z0, z_star, z_hat)
    assert scored.rewards["steering_error"] == pytest.approx(-wanted.error)
    assert scored.rewards["miscalibration"] == pytest.approx(-wanted.miscalibration)
    assert scored.rewards["orthogonality"] == pytest.approx(-wanted.orthogonality)
    assert scored.rewards["goal:b"] == pytest.approx([-0.1, -0.2, -0.4, -0.3, 0.0])
    assert scored.z == pytest.approx(z_hat)
    total = -wanted.error - 0.5 * wanted.miscalibration - 0.25 * wanted.orthogonality
    assert found.total(scored) == pytest.approx(total)
    # two of three content words of the source, all of the answer's: recall 2/3 with stop words aside
    assert 0.0 < scored.rewards["meaning"][4] < 1.0
    assert scored.watched["length"][4] == pytest.approx(2 / 3)


def test_shapes_are_those_by_hand():
    # request r, answer far: errors .6 and .4
    far = [ANSWERS[2]]

    def reward(**shape):
        return float(rewarder(**shape).score(far).rewards["steering_error"][0])

    assert reward() == pytest.approx(-np.sqrt(0.36 + 0.16))
    assert reward(shape="square") == pytest.approx(-0.52)
    assert reward(rescale=True) == pytest.approx(1 - np.sqrt(0.52 / 2))
    assert reward(shape="square", rescale=True) == pytest.approx(1 - 0.52 / 2)
    assert reward(too_bad=0.5) == pytest.approx(-np.sqrt(0.25 + 0.16))
    assert reward(good_enough=0.45) == pytest.approx(-np.sqrt(0.36 + 0.45**2))
    # request s, answer near: errors .5 and .2; tenths stay tenths, whatever their rounding
    near = [ANSWERS[1]]
    assert rewarder(shape="decile").score(near).rewards["steering_error"] == pytest.approx([-np.sqrt(0.29)])


@pytest.mark.parametrize("text", ["near", "odd", ""])
def test_an_answer_that_is_none_is_as_bad_as_can_be_and_never_zero(text):
    failure = None if text == "odd" else "truncated" if text else "empty"
    for request, target in TARGETS.items():
        scored = rewarder(rewards=EVERY).score([answer(request, text, failure)])
        z0, z_star = target.z0[None], target.z_star[None]
        assert scored.rewards["steering_error"] == pytest.approx(-worst_error(z0, z_star))
        assert scored.rewards["miscalibration"] == pytest.approx(-worst_miscalibration(z0, z_star))
        assert scored.rewards["orthogonality"] == [-1.0]
        assert scored.rewards["meaning"] == [0.0]
        assert np.isnan(scored.watched["meaning"]).all()
        left_out = rewarder(rewards=EVERY, failures="left_out").score([answer(request, text, failure)])
        assert all(np.isnan(v).all() for v in left_out.rewards.values())


def test_language_and_thinking_are_read_off_the_raw_answer():
    found = rewarder(rewards={"english_only": 1.0, "think_format": 1.0}).score(
        [
            answer("r", "near", raw="<think>so</think> near"),
            answer("r", "near", raw="near <think>so</think>"),
            answer("r", "near", raw="near 漢字"),
        ]
    )
    assert found.rewards["english_only"].tolist() == [1.0, 1.0, 0.0]
    assert found.rewards["think_format"].tolist() == [1.0, 0.0, 0.0]


def test_a_goal_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match="'goal:c': the goal space has a, b"):
        rewarder(rewards={"goal:c": 1.0})


# --- which of a group are kept


def test_the_best_and_the_worst_are_kept_and_what_has_no_reward_last():
    rewards = np.array([0.1, 0.9, np.nan, 0.5, 0.3, 0.7])
    assert extremes(rewards, 2) == [0, 1]
    assert extremes(rewards, 3) == [0, 1, 5]
    assert extremes(rewards, 4) == [0, 1, 4, 5]
    assert extremes(rewards, 5) == [0, 1, 3, 4, 5]
    assert extremes(np.array([np.nan, 0.2, np.nan]), 2) == [0, 1]


def test_pareto_fronts_equal_brute_force():
    rng = np.random.default_rng(0)
    for _ in range(50):
        rewards = rng.integers(0, 4, (10, 2)).astype(float)

        def beaten(i, among, of=rewards):
            return any((of[j] >= of[i]).all() and (of[j] > of[i]).any() for j in among)

        left, order = set(range(10)), []
        while left:
            front = [i for i in sorted(left) if not beaten(i, left)]
            order += sorted(front, key=lambda i, of=rewards: (-of[i].sum(), i))
            left -= set(front)
        for n in (1, 3, 7):
            assert pareto(rewards, n) == sorted(order[:n])
    assert pareto(np.array([[1.0, np.nan], [0.0, 0.0]]), 1) == [1]


def test_a_table_of_measures_has_no_nulls_as_zeros():
    frame = pl.DataFrame({"v": rewarder(failures="left_out").score([answer("r", "odd")]).rewards["steering_error"]})
    assert frame["v"].is_nan().all()
