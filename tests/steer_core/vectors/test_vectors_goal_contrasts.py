"""Goal contrasts: pairs of answers to one text, far apart on one goal and close on the others."""

import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import ContrastExamples
from schemas.digest import digest_text
from steer_core.goals.space import GoalSpace
from steer_core.steering.plan import Message
from steer_core.tables.errors import ConfigError, SteerworksError
from steer_core.tables.validation import check
from steer_core.vectors.goal_contrasts import FEWEST, mine_contrasts

SPACE = GoalSpace(("ease", "length"), ("ease@1", "length@1"), np.array([0.0, 0.0]), np.array([10.0, 10.0]))


def world(answers):
    """Tables of the training pool from (text, raw ease, raw length) of each answer, or None where it failed."""
    requests, goals, outcomes, values = [], [], [], []
    for i, (text, ease, length) in enumerate(answers):
        request, words = f"r{i}", f"answer {i}"
        requests.append((request, "pool", "train", digest_text(text), text, "made"))
        goals += [(request, "ease", 0.5, 0.9, 5.0), (request, "length", 0.5, None, 5.0)]
        outcomes.append((request, words, digest_text(words), None if ease is not None else "refused"))
        values += [
            (digest_text(words), s, v, "ok" if v is not None else "undefined")
            for s, v in (("ease@1", ease), ("length@1", length))
        ]
    return (
        pl.DataFrame(requests, schema=["request_id", "probe", "split", "text_id", "text", "source"], orient="row"),
        pl.DataFrame(
            goals,
            schema={"request_id": pl.String, "goal": pl.String, "z0": float, "z_star": float, "z0_raw": float},
            orient="row",
        ),
        pl.DataFrame(
            outcomes,
            schema={"request_id": pl.String, "text": pl.String, "text_id": pl.String, "failure": pl.String},
            orient="row",
        ),
        pl.DataFrame(
            values,
            schema={"text_id": pl.String, "scorer_id": pl.String, "value": float, "state": pl.String},
            orient="row",
        ),
    )


def mine(answers, goals=("ease",), **options):
    def messages_of(source):
        return (Message("user", f"Rewrite: {source.text}"),)

    return mine_contrasts(*world(answers), SPACE, goals, messages_of=messages_of, **options)


def z_of(answers, words):
    return np.array([v / 10.0 for v in answers[int(words.split()[1])][1:]])


CLEAR = [(f"text {i // 2}", 2.0 + 6.0 * (i % 2), 5.0) for i in range(2 * FEWEST)]


def test_the_higher_answer_shows_the_goal_and_both_follow_one_prompt():
    found = check(mine(CLEAR), ContrastExamples)
    assert found["concept"].unique().to_list() == ["ease"]
    assert found["kind"].unique().to_list() == ["mined"]
    assert found.height == 2 * FEWEST
    for _, pair in found.group_by("pair_id"):
        high, low = pair.sort("label", descending=True).iter_rows(named=True)
        assert z_of(CLEAR, high["answer"])[0] - z_of(CLEAR, low["answer"])[0] == pytest.approx(0.6)
        assert high["messages"] == low["messages"]
        text = CLEAR[int(high["answer"].split()[1])][0]
        assert json.loads(high["messages"]) == [{"role": "user", "content": f"Rewrite: {text}"}]
        assert CLEAR[int(low["answer"].split()[1])][0] == text


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 0.5), st.floats(0.1, 0.6))
def test_pairs_are_far_on_the_goal_close_on_the_others_and_disjoint(seed, min_gap, max_other):
    rng = np.random.default_rng(seed)
    answers = [(f"text {i // 5}", *rng.uniform(0, 10, 2)) for i in range(150)] + CLEAR
    found = mine(answers, min_gap=min_gap, max_other=max_other)
    assert found["answer"].n_unique() == found.height >= 2 * FEWEST
    for _, pair in found.group_by("pair_id"):
        high, low = (z_of(answers, a) for a in pair.sort("label", descending=True)["answer"])
        assert high[0] - low[0] >= min_gap - 1e-9
        assert abs(high[1] - low[1]) <= max_other + 1e-9


def test_the_best_pairs_are_kept():
    # three answers a text: the wide pair costs the others something, the narrow one does not
    answers = [(f"text {i}", *z) for i in range(FEWEST + 4) for z in ((9.0, 5.0), (1.0, 5.0 + i / 4), (4.0, 5.0))]
    best = mine(answers, max_pairs=FEWEST)
    assert best.height == 2 * FEWEST
    costs = [abs(z_of(answers, a)[1] - 0.5) for a in best.filter(pl.col("label") == 0)["answer"]]
    assert max(costs) == pytest.approx((FEWEST - 1) / 40)
    free = mine(answers, weight=0.0, max_pairs=FEWEST)
    assert {z_of(answers, a)[0] for a in free.filter(pl.col("label") == 0)["answer"]} == {0.1}
    strict = mine(answers, weight=100.0)
    # the first text's wide pair costs nothing; elsewhere the narrow one is the better
    assert sorted({z_of(answers, a)[0] for a in strict.filter(pl.col("label") == 0)["answer"]}) == [0.1, 0.4]


def test_answers_that_failed_or_have_no_value_are_left_out():
    failed = [(f"text {i}", None, None) for i in range(FEWEST)]
    undefined = [(f"text {i}", 5.0, None) for i in range(FEWEST)]
    found = mine([*CLEAR, *failed])
    assert set(found["answer"]) == {f"answer {i}" for i in range(2 * FEWEST)}
    # a goal that is undefined for one side does not count against a pair
    open_ended = mine([*[(t, e, None) for t, e, _ in CLEAR], *undefined])
    assert open_ended.height == 2 * FEWEST


def test_answers_to_different_texts_are_never_paired():
    alone = [(f"text {i}", float(i % 10), 5.0) for i in range(40)]
    with pytest.raises(SteerworksError, match="gets 0 contrast pairs.*0 texts have several answers"):
        mine(alone)


def test_too_few_pairs_name_the_goal_and_what_to_raise():
    answers = [*CLEAR[:-2], ("text far", 1.0, 0.0), ("text far", 9.0, 10.0)]
    with pytest.raises(SteerworksError) as refused:
        mine(answers)
    said = str(refused.value)
    assert said.startswith(f"goal 'ease' gets {FEWEST - 1} contrast pairs")
    assert (
        f"{2 * FEWEST} answers were asked for this goal, {FEWEST} pairs lie 0.2 apart on it, and {FEWEST - 1}" in said
    )
    assert "Raise `n_texts` or `n_goals_per_text` of the training probe, raise `max_other`, or lower `min_gap`" in said
    assert mine(answers, max_other=1.0, weight=0.0).height == 2 * FEWEST


def test_unknown_goals_and_settings_out_of_range_are_refused():
    with pytest.raises(ConfigError, match="goal 'wit' is not in the goal space"):
        mine(CLEAR, ("wit",))
    with pytest.raises(ConfigError, match="min_gap 0.0 must be in"):
        mine(CLEAR, min_gap=0.0)
