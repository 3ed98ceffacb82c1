"""Judges: what they are asked, how replies are read, what is missing, and how good they are."""

import json
import math

import numpy as np
import polars as pl
import pytest
from behavior_world import BEHAVIOR, make_items

from schemas import JudgeCalibration, Judgements
from schemas.specs import BehaviorSpec, GoalSpec, JudgeSpec, PairsBehavior
from steer_core.evaluation.judges.asking import Option, ask_expected, parse_reply
from steer_core.evaluation.judges.calibration import calibrate, calibration_table, known_cases
from steer_core.evaluation.judges.groundedness import check_groundedness, shared_words
from steer_core.evaluation.judges.judge import Case, judge_cases, missing_judgements
from steer_core.evaluation.judges.llm import LlmJudge
from steer_core.evaluation.judges.load import build_rubric, load_judge, rubric_names
from steer_core.evaluation.judges.pairwise import TextPair, agreement, preferences
from steer_core.generation.backend import Capabilities, Finished, Generation
from steer_core.models.embedded.grammar import read
from steer_core.statistics import auroc, auroc_interval
from steer_core.steering.plan import Message, Plan
from steer_core.tables import check
from steer_core.tables.errors import ConfigError

PAIRS = PairsBehavior(path="pairs.csv")
TEN = tuple(Option(str(n), float(n)) for n in range(11))
PROMPT = (Message("user", "First line of the question.\n\nSecond line of it."),)


def behavior(rubric="zero-to-ten", scale=(0.0, 10.0), repeats=1, **options):
    judge = JudgeSpec(kind="llm", rubric=rubric, options=options, repeats=repeats)
    return BehaviorSpec(name="warmth", source=PAIRS, judge=judge, scale=scale, description="warm to the reader")


def case(response="An answer.", response_id="r", item_id="i", **options):
    return Case(response_id, item_id, PROMPT, response, **options)


class Scripted:
    """A judge's backend: replies and probabilities by a rule, prompts kept."""

    execution = "scripted"

    def __init__(self, reply=None, probabilities=None):
        self.capabilities = Capabilities("scripted", None, scores=probabilities is not None)
        self.reply, self.probabilities = reply, probabilities
        self.prompts, self.seeds = [], []

    def prompt_tokens(self, plan):
        return len(plan.messages[-1].content)

    def generate(self, calls, batch_size=64):
        for index, call in enumerate(calls):
            self.prompts.append(call.plan.messages[-1].content)
            self.seeds.append(call.seed)
            yield Finished(index, Generation(self.reply(call.plan.messages[-1].content), "stop", 1, 1, 0.0))

    def score(self, plans, continuations):
        self.prompts += [p.messages[-1].content for p in plans]
        found = [self.probabilities(p.messages[-1].content) for p in plans]
        # a probability is one token, a list of them several
        return [[math.log(v) for v in np.atleast_1d(table[c])] for table, c in zip(found, continuations, strict=True)]

    def diverge(self, plans, continuations, against=None):
        raise AssertionError("a judge is never steered")


def judge_of(reply="7", **options):
    backend = Scripted(reply if callable(reply) else lambda _: reply)
    return load_judge(behavior(**options), backend, "m"), backend


# --- ground truth


def test_ground_truth_puts_the_positive_level_at_the_top_of_the_scale():
    judge = load_judge(BEHAVIOR)
    known = known_cases(make_items(n_open=0, n_pair=6))
    rows = judge_cases(judge, [k.case for k in known])
    check(rows, Judgements)
    values = dict(rows.select("response_id", "value").iter_rows())
    assert [values[k.case.response_id] for k in known] == [10.0, 0.0] * 6
    assert set(rows["method"]) == {"ground_truth"}
    level = json.loads(rows["raw"][0])["sentiment"]
    assert level in (-2, 2)


def test_levels_lie_evenly_on_the_scale_whichever_way_it_points():
    source = BEHAVIOR.source.model_copy(update={"positive": -2, "negative": 2})
    downwards = BEHAVIOR.model_copy(update={"source": source, "scale": (1.0, 5.0)})
    reader = load_judge(downwards).reader
    assert [reader.value(level) for level in (-2, -1, 0, 1, 2)] == [5.0, 4.0, 3.0, 2.0, 1.0]
    narrow = BEHAVIOR.model_copy(update={"source": BEHAVIOR.source.model_copy(update={"positive": 1, "negative": 0})})
    assert [load_judge(narrow).reader.value(level) for level in (-2, 0, 1, 2)] == [0.0, 0.0, 10.0, 10.0]


def test_a_text_without_a_sign_of_the_attribute_is_missing_and_an_empty_one_no_answer():
    assert read("xyz").sentiment is None
    rows = judge_cases(load_judge(BEHAVIOR), [case("xyz"), case("  ", "r2")])
    assert dict(rows.select("response_id", "state").iter_rows()) == {"r": "unparsed", "r2": "no_answer"}
    assert rows["value"].null_count() == 2


# --- reading replies


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ("7", 7.0),
        (" **10** because", 10.0),
        ("(3)", 3.0),
        ("1 out of 4", 1.0),
        ("4/10", 4.0),
        ("I would say: score: 8.", 8.0),
        ("The answer is 0", 0.0),
        ("Rating: 2. Final rating: 6", 6.0),
        ("There is a clear 9 here", 9.0),
        ("<think>maybe 3 or 4</think>5", 5.0),
        ("7.5", None),
        ("between 3 and 4", None),
        ("11", None),
        ("-3", None),
        ("7-8", None),
        ("none", None),
        ("", None),
    ],
)
def test_replies_are_read_as_a_person_would_or_not_at_all(reply, value):
    assert parse_reply(reply, TEN) == value


def test_words_are_read_like_numbers():
    options = (Option("Yes", 1.0), Option("No", 0.0))
    replies = ["Yes.", "no, it does not", "It is not known", "Nothing", "Answer: YES"]
    assert [parse_reply(r, options) for r in replies] == [1.0, 0.0, None, None, 1.0]


# --- expected scores


def uniform(*weights):
    return {str(n): w for n, w in zip(range(11), weights, strict=True)}


def plans(n=1):
    judge, _ = judge_of()
    return [Plan("m", judge.decoding, judge.question.ask(case(f"{k}"), 0)) for k in range(n)]


def test_expected_score_is_the_mean_over_options_and_says_their_mass():
    table = uniform(*[1e-12] * 6, 0.1, 0.3, 1e-12, 1e-12, 0.1)
    (verdict,) = ask_expected(plans(), TEN, Scripted(probabilities=lambda _: table), batch_size=4)
    assert verdict.value == pytest.approx((0.6 + 2.1 + 1.0) / 0.5)
    assert verdict.method == "expected"
    raw = json.loads(verdict.raw)
    assert raw["mass"] == pytest.approx(0.5, abs=1e-5)
    assert raw["probabilities"]["7"] == pytest.approx(0.3)


def test_ten_in_two_tokens_is_not_counted_as_one_as_well():
    apart = uniform(*[1e-12, 0.4, *[1e-12] * 8, [0.4, 0.75]])
    (verdict,) = ask_expected(plans(), TEN, Scripted(probabilities=lambda _: apart), batch_size=4)
    # 1 then 0 is .3, so 1 alone is .1
    assert verdict.value == pytest.approx((0.1 * 1 + 0.3 * 10) / 0.4)
    whole = uniform(*[1e-12, 0.4, *[1e-12] * 8, 0.3])
    (verdict,) = ask_expected(plans(), TEN, Scripted(probabilities=lambda _: whole), batch_size=4)
    assert verdict.value == pytest.approx((0.4 * 1 + 0.3 * 10) / 0.7)


def test_a_judge_that_is_about_to_say_something_else_gives_no_score():
    nothing = uniform(*[1e-6] * 11)
    judge = load_judge(behavior(), Scripted(probabilities=lambda _: nothing), "m")
    rows = judge_cases(judge, [case()])
    check(rows, Judgements)
    assert rows.select("value", "state", "method").rows() == [(None, "unparsed", "expected")]
    assert json.loads(rows["raw"][0])["mass"] < 0.02


# --- what a judge is asked


@pytest.mark.parametrize(("rubric", "scale"), [("zero-to-ten", (0, 10)), ("one-to-four", (1, 4)), ("yes-no", (0, 1))])
def test_the_whole_question_is_shown_and_examples_stand_at_their_own_ends(rubric, scale):
    spec = behavior(rubric, scale)
    judge = load_judge(spec, Scripted(lambda _: ""), "m")
    assert judge.scale == scale
    asked = judge.question.ask(case("MINE", positive="GOOD", negative="BAD"), 0)
    text = asked[-1].content
    assert PROMPT[0].content in text
    assert "<answer>\nMINE\n</answer>" in text
    assert "warm to the reader" in text
    top, bottom = {"zero-to-ten": ("10", "0"), "one-to-four": ("4", "1"), "yes-no": ("Yes", "No")}[rubric]
    before = {word: text[: text.index(f"<example>\n{word}")].splitlines()[-1] for word in ("GOOD", "BAD")}
    assert before["GOOD"].rstrip(":").split()[-1] == top
    assert before["BAD"].rstrip(":").split()[-1] == bottom
    swapped = judge.question.ask(case("MINE", positive="GOOD", negative="BAD"), 1)[-1].content
    assert (text.index("BAD") < text.index("GOOD")) != (swapped.index("BAD") < swapped.index("GOOD"))
    bare = judge.question.ask(case("MINE"), 0)[-1].content
    assert "<example>" not in bare


def test_grades_are_explained_from_the_bottom_to_the_top():
    text = judge_of(bottom="cold as ice", top="warm as toast")[0].question.ask(case(), 0)[-1].content
    assert text.index("0: cold as ice") < text.index("5: ") < text.index("10: warm as toast")


def test_a_conversation_of_several_turns_is_shown_with_its_roles():
    turns = (
        Message("system", "Be kind."),
        Message("user", "Hello"),
        Message("assistant", "Hi"),
        Message("user", "So?"),
    )
    text = judge_of()[0].question.ask(Case("r", "i", turns, "x"), 0)[-1].content
    assert "[system]\nBe kind.\n\n[user]\nHello\n\n[assistant]\nHi\n\n[user]\nSo?" in text


# --- the table of judgements


def test_only_missing_judgements_are_asked_for():
    judge, backend = judge_of(repeats=3)
    cases = [case("one", "r1"), case("two", "r2")]
    kept, told = [], []
    rows = judge_cases(
        judge, cases[:1], keep=kept.append, batch_size=2, progress=lambda done, total: told.append((done, total))
    )
    check(rows, Judgements)
    assert rows["repeat"].to_list() == [0, 1, 2]
    assert [k.height for k in kept] == [2, 1]
    assert told == [(2, 3), (3, 3)]
    assert [(c.response_id, k) for c, k in missing_judgements(judge, cases, rows)] == [("r2", k) for k in range(3)]
    whole = judge_cases(judge, cases, rows)
    assert len(backend.prompts) == 6
    assert whole.height == 6
    assert judge_cases(judge, cases, whole).equals(whole)
    assert len(backend.prompts) == 6


def test_repeats_are_drawn_with_seeds_of_their_own():
    judge, backend = judge_of(repeats=2)
    assert judge.decoding.temperature == 1.0
    judge_cases(judge, [case()])
    assert len(set(backend.seeds)) == 2
    assert judge_of()[0].decoding.temperature == 0.0


def test_an_unparsed_reply_is_missing_and_kept_in_its_own_words():
    judge, _ = judge_of("who knows")
    rows = judge_cases(judge, [case()])
    assert rows.select("value", "state", "method", "raw").rows() == [(None, "unparsed", "text", "who knows")]


def test_another_wording_model_or_reading_is_another_judge():
    backend, scored = Scripted(lambda _: "7"), Scripted(probabilities=lambda _: uniform(*[0.05] * 11))
    first = load_judge(behavior(), backend, "m")
    same = load_judge(behavior(), Scripted(lambda _: "2"), "m")
    assert first.judge_id == same.judge_id
    others = [
        load_judge(behavior(), backend, "another"),
        load_judge(behavior(), scored, "m"),
        load_judge(behavior(top="warm as toast"), backend, "m"),
        load_judge(behavior(examples=False), backend, "m"),
        load_judge(behavior(repeats=2), backend, "m"),
        load_judge(behavior("yes-no", (0.0, 1.0)), backend, "m"),
    ]
    assert len({j.judge_id for j in (first, *others)}) == 7
    rows = judge_cases(first, [case()])
    assert len(missing_judgements(others[0], [case()], rows)) == 1
    moved = rows.with_columns(rubric=pl.lit("zero-to-ten@0"))
    assert len(missing_judgements(first, [case()], moved)) == 1


# --- what can go wrong in a spec


def test_rubrics_are_found_by_name_and_bad_specs_are_said():
    assert rubric_names() == [
        "attribute", "compliance", "concept", "fluency", "grounded", "instruct", "one-to-four", "yes-no", "zero-to-ten",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="unknown rubric 'zero-to-five'; there are: attribute"):
        build_rubric("zero-to-five", BEHAVIOR, {})
    with pytest.raises(ConfigError, match="it takes: trait, bottom, top, examples"):
        build_rubric("zero-to-ten", BEHAVIOR, {"tone": 1})
    with pytest.raises(ConfigError, match=r"goes from 1 to 4, and `scale` says 0 to 10: write `scale: \[1, 4\]`"):
        load_judge(behavior("one-to-four"), Scripted(lambda _: ""), "m")
    with pytest.raises(ConfigError, match="judged by a model, and none was given"):
        load_judge(behavior())
    with pytest.raises(ConfigError, match="write `kind: llm`"):
        load_judge(BEHAVIOR.model_copy(update={"judge": JudgeSpec(rubric="yes-no")}))
    with pytest.raises(ConfigError, match="write `kind: ground_truth`"):
        load_judge(BEHAVIOR.model_copy(update={"judge": JudgeSpec(kind="llm")}))
    with pytest.raises(ConfigError, match="reads the embedded model's grammar"):
        load_judge(behavior().model_copy(update={"judge": JudgeSpec()}))
    with pytest.raises(ConfigError, match="no log-probabilities"):
        LlmJudge(Scripted(lambda _: ""), "m", build_rubric("yes-no", BEHAVIOR, {}), reading="expected")


# --- calibration


def test_the_ground_truth_judge_is_perfect_on_its_own_texts():
    found = calibrate(load_judge(BEHAVIOR), known_cases(make_items(n_open=0, n_pair=8)))
    assert (found.accuracy, found.accuracy_worst, found.auroc, found.bias) == (1.0, 1.0, 1.0, 0.0)
    assert (found.n, found.unparsed, found.spread) == (16, 0.0, None)


def test_a_generous_judge_has_the_order_right_and_a_bias():
    def grade(prompt):
        answer = prompt.split("<answer>\n")[1].split("\n</answer>")[0]
        return "10" if read(answer).sentiment > 0 else "8"

    judge, _ = judge_of(grade)
    found = calibrate(judge, known_cases(make_items(n_open=0, n_pair=4)))
    assert (found.accuracy, found.auroc) == (0.5, 1.0)
    assert found.bias == pytest.approx(0.4)


def test_unparsed_verdicts_are_left_out_of_accuracy_and_wrong_in_the_worst_reading():
    replies = iter(["10", "0", "well", "hm", "0", "10", "5", "5"])
    judge, _ = judge_of(lambda _: next(replies))
    found = calibrate(judge, known_cases(make_items(n_open=0, n_pair=4)))
    assert (found.n, found.unparsed) == (6, 0.25)
    assert found.accuracy == pytest.approx((2 + 0 + 2 * 0.5) / 6)
    assert found.accuracy_worst == pytest.approx(3 / 8)


def test_the_judge_is_not_shown_the_answer_it_grades():
    neutral = make_items(n_open=0, n_pair=3, group="neutral")
    known = known_cases(pl.concat([make_items(n_open=2, n_ab=2, n_pair=3), neutral]))
    assert len(known) == 6
    assert all(k.case.positive is None and k.case.negative is None for k in known)


def test_auroc_counts_ties_as_half():
    assert auroc(np.array([1.0, 0.5]), np.array([0.5, 0.0])) == pytest.approx(3.5 / 4)
    assert auroc(np.array([0.0]), np.array([1.0])) == 0.0


# --- groundedness


def test_judge_and_words_are_held_against_each_other():
    replies = {"FAR": "No", "NEAR": "Yes", "CHANGED": "Yes", "ODD": "hm"}
    backend = Scripted(lambda prompt: next(v for k, v in replies.items() if k in prompt))
    judge = LlmJudge(backend, "m", build_rubric("grounded", BEHAVIOR, {}))
    prompt = (Message("user", "Tell me about the baker and the ovens."),)
    texts = {
        "far": "FAR ships sail",
        "near": "NEAR a baker has an oven",
        "changed": "CHANGED other things",
        "odd": "ODD baker oven",
    }
    found = check_groundedness(judge, [Case(k, "i", prompt, t) for k, t in texts.items()])
    rows = {r["response_id"]: r for r in found.iter_rows(named=True)}
    assert [rows[k]["grounded"] for k in texts] == [False, True, True, None]
    assert [rows[k]["review"] for k in texts] == [False, False, True, True]
    assert rows["near"]["shared"] == pytest.approx(2 / 3)
    assert shared_words("the of", "anything") is None


# --- pairwise validation of goals

GOAL = GoalSpec(name="length", scorer="text_length", unit="tokens", noun="length", more="longer", less="shorter")


def texts(n=12):
    rng = np.random.default_rng(1)
    z = rng.random((n, 2)).round(2)
    return [TextPair(f"{a:.2f}", f"{b:.2f}", a, b) for a, b in z]


def shown(prompt):
    blocks = [b.split("\n</text>")[0] for b in prompt.split("<text>\n")[1:]]
    return float(blocks[0]), float(blocks[1])


def test_a_judge_that_sees_the_goal_agrees_with_it_fully():
    def reply(prompt):
        a, b = shown(prompt)
        return "Tie" if abs(a - b) < 0.1 else "A" if a > b else "B"

    backend = Scripted(reply)
    found = agreement("length", preferences(GOAL, texts(), backend, "m"))
    assert all("Which version is longer?" in p for p in backend.prompts)
    assert found.tau == pytest.approx(1.0)
    assert (found.same_side, found.n, found.unparsed, found.first_place) == (1.0, 12, 0.0, 0.0)


def test_a_judge_that_sees_the_opposite_has_tau_minus_one():
    def reply(prompt):
        a, b = shown(prompt)
        return "Tie" if abs(a - b) < 0.1 else "B" if a > b else "A"

    assert agreement("length", preferences(GOAL, texts(), Scripted(reply), "m")).tau == pytest.approx(-1.0)


def test_a_liking_for_the_first_place_cancels_and_is_reported():
    found = agreement("length", preferences(GOAL, texts(), Scripted(lambda _: "A"), "m"))
    assert (found.tau, found.same_side, found.first_place) == (None, None, 1.0)


def test_preferences_come_from_probabilities_where_there_are_any_and_unparsed_pairs_drop_out():
    def table(prompt):
        a, b = shown(prompt)
        if a == 0.515:
            return {"A": 1e-9, "B": 1e-9, "Tie": 1e-9}
        return {"A": 0.9 if a > b else 0.05, "B": 0.05 if a > b else 0.9, "Tie": 0.05}

    pairs = [*texts(8), TextPair("0.515", "0.10", 0.515, 0.1)]
    compared = preferences(GOAL, pairs, Scripted(probabilities=table), "m", tie=0.0)
    assert compared["preference"].null_count() == 1
    assert set(compared["preference"].drop_nulls().round(6)) <= {0.85, -0.85}
    found = agreement("length", compared)
    assert (found.tau, found.n) == (pytest.approx(1.0), 8)
    assert found.unparsed == pytest.approx(1 / 9)


def _known(n):
    return known_cases(make_items(n_open=0, n_pair=n))


def test_a_judge_at_chance_has_an_interval_around_a_half_and_a_good_one_has_not():
    known = _known(24)
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        values = rng.normal(size=len(known))
        labels = np.array([k.positive for k in known])
        low, high = auroc_interval(values, labels, [k.case.item_id for k in known])
        covered += low <= 0.5 <= high
    # 95 % intervals of a judge that knows nothing
    assert 0.90 <= covered / 200 <= 0.99
    good = np.array([k.positive + rng.normal(0, 0.4) for k in known])
    low, high = auroc_interval(good, labels, [k.case.item_id for k in known])
    assert 0.8 < low < auroc(good[labels], good[~labels]) < high <= 1.0
    assert auroc_interval(good[:2], labels[:2], ["one", "one"]) == (None, None)


def test_the_row_of_a_calibration_is_that_of_its_judge():
    known = _known(6)
    found = calibrate(load_judge(BEHAVIOR), known)
    row = check(calibration_table("cheer", load_judge(BEHAVIOR), known), JudgeCalibration).row(0, named=True)
    assert (row["behavior"], row["n"], row["unparsed"]) == ("cheer", found.n, found.unparsed)
    assert (row["auroc"], row["low"], row["high"]) == (found.auroc, found.auroc_low, found.auroc_high)
    assert calibration_table("cheer", load_judge(BEHAVIOR), []).is_empty()
