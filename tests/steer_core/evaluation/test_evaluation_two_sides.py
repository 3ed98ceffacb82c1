"""Two texts a request before a judge: which pairs there are, and whether answers move as was asked."""

import numpy as np
import polars as pl
import pytest
from scipy.stats import binomtest

from schemas import GoalAgreement
from schemas.specs import GoalSpec
from steer_core.evaluation.judges.pairwise import TextPair, preferences, toward
from steer_core.evaluation.judges.two_sides import goal_agreements, pairs_of
from steer_core.tables.validation import check
from tests.steer_core.evaluation.test_evaluation_judges import Scripted, shown

GOALS = {
    "length": GoalSpec(name="length", scorer="text_length", unit="tokens", noun="length", more="longer", less="shorter")
}


def ruler(texts):
    return [{"length": None if t == "odd" else float(t)} for t in texts]


def reply(prompt):
    a, b = shown(prompt)
    return "Tie" if abs(a - b) < 0.1 else "A" if a > b else "B"


def asked_of(**moves):
    return pl.DataFrame(
        [(r, "length", 0.5, None if m is None else 0.5 + m) for r, m in moves.items()],
        schema={"request_id": pl.String, "goal": pl.String, "z0": pl.Float64, "z_star": pl.Float64},
        orient="row",
    )


def test_pairs_are_the_same_requests_for_every_method_and_what_is_missing_is_counted():
    answers = pl.DataFrame({"request_id": list("dcab"), "text_id": ["t"] * 4, "left": ["4", "3", None, "2"]})
    others = pl.DataFrame({"request_id": list("abcd"), "right": ["1", "2", None, "4"]})
    pairs, left_out = pairs_of(answers, others)
    assert pairs["request_id"].to_list() == ["b", "d"]
    assert left_out == 2
    # nothing beyond the last pair that is taken is counted
    pairs, left_out = pairs_of(answers, others, n=1)
    assert (pairs["request_id"].to_list(), left_out) == (["b"], 1)


def test_a_judge_sees_answers_move_as_asked_whichever_way_that_is():
    pairs = pl.DataFrame(
        {
            "request_id": list("abcde"),
            "text_id": ["s", "t", "u", "v", "w"],
            "left": ["0.9", "0.1", "0.9", "0.5", "odd"],
            "right": ["0.5", "0.5", "0.5", "0.5", "0.5"],
        }
    )
    # up, down, up and got down's opposite, asked up and did not move; the last cannot be measured
    asked = asked_of(a=0.4, b=-0.4, c=-0.3, d=0.4, e=0.4)
    found = check(goal_agreements("rewrite", pairs, 3, asked, GOALS, ruler, Scripted(reply), "m"), GoalAgreement)
    row = found.row(0, named=True)
    assert (row["against"], row["n"], row["left_out"]) == ("rewrite", 4, 4)
    assert row["tau"] == pytest.approx(1.0)
    assert (row["toward"], row["toward_n"]) == (pytest.approx((1 + 1 - 1 + 0) / 4), 4)
    assert row["toward_low"] < row["toward"] < row["toward_high"]


def test_a_goal_that_is_not_asked_for_has_no_direction():
    compared = preferences(GOALS["length"], [TextPair("0.9", "0.1", 0.9, 0.1)] * 3, Scripted(reply), "m")
    found = toward(compared, [float("nan"), 0.05, -0.5], ["a", "b", "c"])
    assert (found.value, found.n) == (-1.0, 1)


def test_equal_texts_are_a_tie_and_are_not_asked():
    backend = Scripted(lambda _: "A")
    compared = preferences(GOALS["length"], [TextPair("0.5", "0.5", 0.5, 0.5)], backend, "m")
    assert backend.prompts == []
    assert compared["preference"].to_list() == [0.0]


def test_a_judge_that_guesses_rarely_sees_a_movement():
    """Null: verdicts that know nothing of what was asked; the interval misses 0 in about 5 of 100."""
    rng = np.random.default_rng(3)
    missed, trials = 0, 600
    for _ in range(trials):
        texts = np.repeat(np.arange(24), 2)
        # what a judge likes about a text is shared by requests on it
        liked = rng.normal(size=24)[texts] + rng.normal(size=48)
        compared = pl.DataFrame({"preference": np.sign(liked)})
        found = toward(compared, rng.choice([-0.4, 0.4], 48).tolist(), [f"t{t}" for t in texts])
        missed += not found.low <= 0.0 <= found.high
    assert binomtest(missed, trials, 0.05).proportion_ci(0.99).low <= 0.05
    assert missed / trials < 0.075
