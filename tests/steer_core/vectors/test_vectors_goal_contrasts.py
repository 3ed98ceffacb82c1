"""Contrasts for goals: from the first source that gives enough; far apart on one goal and close on the others."""

import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import ContrastExamples, ContrastSources
from schemas.digest import digest_text
from steer_core.goals.space import GoalSpace
from steer_core.steering.plan import Message
from steer_core.tables.errors import ConfigError
from steer_core.tables.validation import check
from steer_core.vectors.goal_contrasts import (
    ENOUGH,
    FEWEST,
    Answers,
    Limits,
    Source,
    choose_contrasts,
    match_texts,
    pair_answers,
)
from steer_core.vectors.goal_contrasts.choice import left_to_the_prompt
from steer_core.vectors.goal_contrasts.matched import PROMPT

SPACE = GoalSpace(("ease", "length"), ("ease@1", "length@1"), np.array([0.0, 0.0]), np.array([10.0, 10.0]))


def world(answers):
    """Tables of the training pool from (text, raw ease, raw length) of each answer, or None where it failed."""
    requests, outcomes, values = [], [], []
    for i, (text, ease, length) in enumerate(answers):
        request, words = f"r{i}", f"answer {i}"
        requests.append((request, digest_text(text), text))
        outcomes.append((request, words, digest_text(words), None if ease is not None else "refused"))
        values += [
            (digest_text(words), s, v, "ok" if v is not None else "undefined")
            for s, v in (("ease@1", ease), ("length@1", length))
        ]
    text = pl.String
    return (
        pl.DataFrame(requests, schema=["request_id", "text_id", "text"], orient="row"),
        pl.DataFrame(
            outcomes, schema={"request_id": text, "text": text, "text_id": text, "failure": text}, orient="row"
        ),
        pl.DataFrame(values, schema={"text_id": text, "scorer_id": text, "value": float, "state": text}, orient="row"),
    )


def mined(answers, **limits):
    def messages_of(source):
        return (Message("user", f"Rewrite: {source.text}"),)

    found = pair_answers(
        Answers.of_pool(*world(answers), SPACE), "ease", 0, messages_of=messages_of, limits=Limits(**limits)
    )
    return found, pl.DataFrame(list(found.examples), schema=ContrastExamples.empty().schema)


def z_of(answers, words):
    return np.array([v / 10.0 for v in answers[int(words.split()[1])][1:]])


CLEAR = [(f"text {i // 2}", 2.0 + 6.0 * (i % 2), 5.0) for i in range(2 * FEWEST)]


def test_the_higher_answer_shows_the_goal_and_both_follow_one_prompt():
    found = check(mined(CLEAR)[1], ContrastExamples)
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
    found = mined(answers, min_gap=min_gap, max_other=max_other)[1]
    assert found["answer"].n_unique() == found.height >= 2 * FEWEST
    for _, pair in found.group_by("pair_id"):
        high, low = (z_of(answers, a) for a in pair.sort("label", descending=True)["answer"])
        assert high[0] - low[0] >= min_gap - 1e-9
        assert abs(high[1] - low[1]) <= max_other + 1e-9


def test_the_best_pairs_are_kept():
    # three answers a text: the wide pair costs the others something, the narrow one does not
    answers = [(f"text {i}", *z) for i in range(FEWEST + 4) for z in ((9.0, 5.0), (1.0, 5.0 + i / 4), (4.0, 5.0))]
    best = mined(answers, max_pairs=FEWEST)[1]
    assert best.height == 2 * FEWEST
    costs = [abs(z_of(answers, a)[1] - 0.5) for a in best.filter(pl.col("label") == 0)["answer"]]
    assert max(costs) == pytest.approx((FEWEST - 1) / 40)
    free = mined(answers, weight=0.0, max_pairs=FEWEST)[1]
    assert {z_of(answers, a)[0] for a in free.filter(pl.col("label") == 0)["answer"]} == {0.1}
    strict = mined(answers, weight=100.0)[1]
    # the first text's wide pair costs nothing; elsewhere the narrow one is the better
    assert sorted({z_of(answers, a)[0] for a in strict.filter(pl.col("label") == 0)["answer"]}) == [0.1, 0.4]


def test_answers_that_failed_or_have_no_value_are_left_out():
    failed = [(f"text {i}", None, None) for i in range(FEWEST)]
    undefined = [(f"text {i}", 5.0, None) for i in range(FEWEST)]
    found = mined([*CLEAR, *failed])[1]
    assert set(found["answer"]) == {f"answer {i}" for i in range(2 * FEWEST)}
    # a goal that is undefined for one side does not count against a pair
    assert mined([*[(t, e, None) for t, e, _ in CLEAR], *undefined])[1].height == 2 * FEWEST


def test_answers_to_different_texts_are_never_paired():
    found, _ = mined([(f"text {i}", float(i % 10), 5.0) for i in range(40)])
    assert (found.pairs, found.candidates) == ((), 0)
    assert found.note.startswith("40 answers to 40 texts, 0 of them with several; 0 pairs")


def test_what_there_was_to_choose_from_is_said():
    answers = [*CLEAR[:-2], ("text far", 1.0, 0.0), ("text far", 9.0, 10.0)]
    found, _ = mined(answers)
    assert len(found.pairs) == FEWEST - 1
    assert f"{FEWEST} pairs lie 0.2 apart on the goal, {FEWEST - 1} of them close on the others" in found.note
    assert mined(answers, max_other=1.0, weight=0.0)[1].height == 2 * FEWEST


def test_asked_answers_pair_only_under_opposite_requests_that_were_followed():
    source = [Source(f"t{i}", f"Text {i}.") for i in range(3)]
    # text 0 is followed, text 1 the wrong way round, text 2 was asked for the other goal
    answers = Answers(
        (source[0], source[0], source[1], source[1], source[2], source[2]),
        ("hi 0", "lo 0", "lo 1", "hi 1", "hi 2", "lo 2"),
        np.array([[0.9, 0.5], [0.1, 0.5], [0.1, 0.5], [0.9, 0.5], [0.9, 0.5], [0.1, 0.5]]),
        (("ease", 1), ("ease", -1), ("ease", 1), ("ease", -1), ("length", 1), ("length", -1)),
    )
    found = pair_answers(answers, "ease", 0, messages_of=lambda s: (Message("user", s.text),), asked_only=True)
    assert [(e["answer"], e["label"], e["kind"]) for e in found.examples] == [
        ("hi 0", 1, "asked"),
        ("lo 0", 0, "asked"),
    ]
    # whatever was asked, all of them serve to mine in
    assert len(pair_answers(answers, "ease", 0, messages_of=lambda s: (Message("user", s.text),)).pairs) == 3


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_texts_of_the_corpus_are_matched_on_the_other_goals(seed):
    rng = np.random.default_rng(seed)
    length = rng.uniform(0, 1, 90)
    # the two goals go together in the corpus: unmatched ends would differ in both
    z = np.stack([np.clip(0.7 * length + rng.normal(0.15, 0.2, 90), 0, 1), length], axis=1)
    texts = [f"text {i}" for i in range(90)]
    found = match_texts(texts, z, "ease", 0)
    high, low = (np.array([getattr(p, end) for p in found.pairs]) for end in ("high", "low"))
    assert len({*high, *low}) == 2 * len(found.pairs) > 2 * FEWEST
    assert (z[high, 0] - z[low, 0] >= 0.2).all()
    assert (np.abs(z[high, 1] - z[low, 1]) <= 0.5).all()
    # no two pairs could change partners, serve as well, and lie closer on the other goal
    swapped = np.abs(z[high, None, 1] - z[None, low, 1])
    serves = (z[high, None, 0] - z[None, low, 0] >= 0.2) & (swapped <= 0.5)
    own = np.diag(swapped)
    better = swapped + swapped.T < own[:, None] + own[None, :] - 1e-9
    assert not (better & serves & serves.T).any()
    # what the sides still differ in is said
    assert f"{abs((z[high, 1] - z[low, 1]).mean()):.2f} apart on average" in found.note
    (before,) = {e["messages"] for e in found.examples}
    assert json.loads(before) == [{"role": "user", "content": PROMPT[0].content}]


def test_texts_with_an_undefined_goal_are_not_matched():
    z = np.full((30, 2), np.nan)
    z[:, 0] = np.linspace(0, 1, 30)
    found = match_texts([f"text {i}" for i in range(30)], z, "ease", 0)
    assert (found.pairs, found.note) == ((), "0 texts of the training side have every goal defined")


def giving(n, log=None):
    """A source with so many pairs for each goal."""

    def look(goals):
        if log is not None:
            log.append(list(goals))
        texts = [f"{side} {i}" for i in range(n) for side in ("high", "low")]
        z = np.array([[0.9 if t.startswith("high") else 0.1, 0.5] for t in texts]).reshape(-1, 2)
        sources = tuple(Source(f"t{i}", f"T {i}.") for i in range(n) for _ in range(2))
        answers = Answers(sources, tuple(texts), z, (None,) * len(texts))
        return {g: pair_answers(answers, g, 0, messages_of=lambda s: (Message("user", s.text),)) for g in goals}

    return look


@pytest.mark.parametrize(
    ("asked", "corpus", "mined", "used", "looked"),
    [
        (ENOUGH, 99, 99, "asked", 1),
        (ENOUGH - 1, ENOUGH, 99, "corpus", 2),
        (FEWEST, FEWEST + 2, FEWEST + 1, "corpus", 3),
        (FEWEST, FEWEST, FEWEST, "asked", 3),
        (0, 0, FEWEST, "mined", 3),
        (FEWEST - 1, 0, FEWEST - 1, None, 3),
    ],
)
def test_the_first_source_that_gives_enough_is_used(asked, corpus, mined, used, looked):
    sources = {"asked": giving(asked), "corpus": giving(corpus), "mined": giving(mined)}
    examples, found = choose_contrasts(["ease"], sources)
    check(examples, ContrastExamples)
    assert check(found, ContrastSources).height == looked
    assert found.filter("used")["source"].to_list() == ([used] if used else [])
    assert examples.height == 2 * sum(found.filter("used")["pairs"])
    assert list(left_to_the_prompt(found)) == ([] if used else ["ease"])
    if used is None:
        said = left_to_the_prompt(found)["ease"]
        assert said.startswith(
            f"at least {FEWEST} contrast pairs are needed; asked: {FEWEST - 1} (14 answers to 7 texts"
        )


def test_a_later_source_is_asked_only_for_goals_that_still_need_it():
    log = []

    def first(goals):
        return {g: giving(ENOUGH if g == "ease" else 0)([g])[g] for g in goals}

    _, found = choose_contrasts(["ease", "length"], {"asked": first, "corpus": giving(ENOUGH, log)})
    assert log == [["length"]]
    assert found.filter("used").select("goal", "source").rows() == [("ease", "asked"), ("length", "corpus")]


def test_settings_out_of_range_are_refused():
    with pytest.raises(ConfigError, match="min_gap 0.0 must be in"):
        Limits(min_gap=0.0)
