"""A behavior from a sentence: prompts that can be edited, a filter that is tried before it is used, and the yield."""

import json

import numpy as np
import polars as pl
import pytest

from schemas import Responses, TraitAnswers, TraitFilters, TraitPrompts
from schemas.specs import BehaviorSpec, ModelSpec
from steer_core.corpus.contrasts import Written, build_contrasts
from steer_core.evaluation.described import export_prompts, filter_answers, make_prompts, write_answers
from steer_core.evaluation.described.answers import Plan
from steer_core.evaluation.judges.judge import Verdict
from steer_core.generation.engines.transformers import TransformersBackend
from steer_core.generation.forced import score_all
from steer_core.generation.run import Run
from steer_core.models.loading import load_model
from steer_core.steering.plan import Message
from steer_core.tables import Journal, check
from steer_core.tables.errors import SteerworksError

SOURCE = {
    "kind": "described", "trait": "cheerful", "sentence": "Tells everything in glad words", "opposite": "desperate",
    "questions": {"shipped": "tales-prompts", "n": 24}, "n_train": 8, "n_test": 4, "max_new_tokens": 24,
}  # fmt: skip


def behavior(**changes):
    judge = {"kind": "llm", "rubric": "yes-no"}
    return BehaviorSpec.model_validate(
        {"name": "glad", "source": SOURCE | changes, "judge": judge, "scale": (0.0, 1.0)}
    )


@pytest.fixture(scope="module")
def backend():
    return TransformersBackend(load_model(ModelSpec(name="embedded", source="embedded", device="cpu")))


def run_of(backend, tmp_path):
    return Run(Journal(str(tmp_path / "responses"), Responses), backend, batch_size=16)


class Author:
    """A run whose model writes what it is told to."""

    def __init__(self, backend, tmp_path, *replies):
        self.replies, self.asked = list(replies), []
        self.run = run_of(self, tmp_path)
        self.model_identity, self.execution = backend.model_identity, "scripted"
        self.capabilities = backend.capabilities
        self.own = backend

    def prompt_tokens(self, plan):
        return 1

    def generate(self, calls, batch_size=1):
        for k, call in enumerate(c for c in calls if c is not None):
            self.asked.append(call.plan.messages[-1].content)
            yield finished(k, self.replies.pop(0))


def finished(place, text):
    from steer_core.generation.backend import Finished, Generation

    return Finished(place, Generation(text, "stop", 1, 1, 0.0))


# --- prompts


def test_without_an_author_templates_ask_for_both_sides_and_the_behavior_is_its_first():
    own = behavior()
    prompts = check(make_prompts(own), TraitPrompts)
    said = prompts.filter(role="instruction").select("pair", "side", "text").rows()
    assert said[:2] == [(0, 1, "You are a cheerful person."), (0, 0, "You are a desperate person.")]
    assert (own.positive_prompt, own.negative_prompt) == (said[0][2], said[1][2])
    assert own.description == "Tells everything in glad words"
    assert tuple(prompts.filter(role="instruction")["side"].value_counts()["count"]) == (3, 3)
    asked = prompts.filter(role="question")
    assert dict(asked["split"].value_counts().iter_rows()) == {"test": 4, "train": 7, "validation": 1}
    assert asked["text"].n_unique() == 12


def test_an_opposite_that_nobody_names_is_the_trait_not_shown():
    own = behavior(opposite=None)
    assert own.negative_prompt == "You are a not at all cheerful person."
    against = make_prompts(own).filter(side=0, pair=1)["text"].item()
    assert against == "This is what you are like: You never do this: Tells everything in glad words."


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"trait": "  "}, "says nothing"),
        ({"sentence": "..."}, "says nothing"),
        ({"opposite": "Cheerful!"}, "trait and opposite say the same"),
        ({"opposite_sentence": "tells everything in glad words."}, "sentence and opposite_sentence say the same"),
        ({"n_train": 1}, "greater than 1"),
    ],
)
def test_a_blank_or_contradictory_description_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        behavior(**changes)


def test_too_few_questions_are_said_with_what_to_do():
    with pytest.raises(SteerworksError, match="24 different questions, and 70 are wanted.*lower `n_train`"):
        make_prompts(behavior(n_train=60, n_test=10))


def test_a_question_more_moves_none_to_the_other_side():
    one = make_prompts(behavior())
    more = make_prompts(behavior(n_train=10))
    tested = [set(rows.filter(split="test")["text"]) for rows in (one, more)]
    assert tested[0] == tested[1]


def test_an_author_writes_instructions_and_questions_and_what_is_neither_is_dropped(backend, tmp_path):
    pairs = "Sure!\n+ Be glad.\n2. - Be gloomy.\n+ Laugh at all.\n- Sigh at all.\nsome remark\n+ Be gloomy.\n- Weep."
    questions = "\n".join(f"{k}. What is the use of thing {k}?" for k in range(14)) + "\nI hope this helps.\nWhy?"
    author = Author(backend, tmp_path, pairs, questions)
    prompts = check(make_prompts(behavior(author="far", questions={}), author.run), TraitPrompts)
    said = prompts.filter(role="instruction").select("side", "text").rows()
    # what stands on both sides is no instruction for either
    assert said == [(1, "Be glad."), (0, "Sigh at all."), (1, "Laugh at all."), (0, "Weep.")]
    assert set(prompts["source"]) == {"author"}
    assert prompts.filter(role="question").height == 12
    assert "cheerful. Tells everything in glad words." in author.asked[0]
    assert "desperate" in author.asked[0]


@pytest.mark.parametrize(
    ("replies", "said"),
    [
        (("I cannot help with that.",), "0 instructions for the trait.*It wrote: 'I cannot help"),
        (("+ Be glad.\n- be glad.",), "no pair of them that differs"),
        (("+ Be glad.\n- Be gloomy.", "What now, friend?"), "1 different questions, and 12 are wanted"),
    ],
)
def test_an_author_that_writes_too_little_is_said_with_what_it_wrote(backend, tmp_path, replies, said):
    with pytest.raises(SteerworksError, match=said):
        make_prompts(behavior(author="far"), Author(backend, tmp_path, *replies).run)


def test_prompts_are_exported_edited_and_read_again(tmp_path):
    prompts, file = make_prompts(behavior()), tmp_path / "prompts.jsonl"
    export_prompts(prompts, file)
    edited = file.read_text().replace("You are a cheerful person.", "You are a glad soul.")
    file.write_text(edited)
    again = check(make_prompts(behavior(prompts=str(file))), TraitPrompts)
    assert again["text"].to_list() == [
        t.replace("You are a cheerful person.", "You are a glad soul.") for t in prompts["text"]
    ]
    assert set(again["source"]) == {"prompts.jsonl"}
    with pytest.raises(SteerworksError, match="is there already"):
        export_prompts(prompts, file)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "row 1"),
        ('{"role": "question", "text": "Why so?"}', "row 1.*a question `split`"),
        (
            '{"role": "instruction", "side": 1, "pair": 7, "text": "Be."}',
            "pair 7 has not one instruction for each side",
        ),
        ('{"role": "remark", "split": "test", "text": "Be."}', "remark"),
        ('{"role": "question", "split": "tests", "text": "Be?"}', "tests"),
    ],
)
def test_a_file_that_is_none_is_said_with_its_row(tmp_path, line, said):
    file = tmp_path / "prompts.jsonl"
    export_prompts(make_prompts(behavior()), file)
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], line, *lines[1:]]))
    with pytest.raises(SteerworksError, match=said):
        make_prompts(behavior(prompts=str(file)))


# --- answers and filters


@pytest.fixture(scope="module")
def written(backend, tmp_path_factory):
    own, run = behavior(), run_of(backend, tmp_path_factory.mktemp("written"))
    prompts = make_prompts(own)
    return own, prompts, check(write_answers(own.source, prompts, run), TraitAnswers), run


def test_each_question_is_answered_under_both_instructions_of_a_pair_by_one_seed(written):
    _, prompts, answers, run = written
    assert answers.height == 2 * 12
    assert dict(answers["pair"].value_counts().iter_rows()) == {0: 8, 1: 8, 2: 8}
    for _, own in answers.group_by("question_id"):
        assert sorted(own["side"]) == [0, 1]
        assert own["pair"].n_unique() == 1
    # once: nothing is asked again
    again = write_answers(behavior().source, prompts, Run(run.journal, run.backend, batch_size=16))
    assert again.equals(answers)
    assert run.journal.read().height == answers["response_id"].n_unique()


class Says:
    """A judge that says what a function of the case says."""

    judge_id, rubric, scale, repeats, method = "says", "says@1", (0.0, 1.0), 1, "text"

    def __init__(self, value):
        self.value = value

    def judge(self, asked):
        values = [self.value(case) for case, _ in asked]
        return [Verdict(v, "unparsed" if v is None else "ok", "") for v in values]


def sides_of(answers):
    return dict(answers.select("answer_id", "side").iter_rows())


def test_a_judge_that_tells_the_sides_apart_filters_and_says_how_well(written):
    _, prompts, answers, run = written
    sides = sides_of(answers)
    wrong = answers["answer_id"][0]
    judge = Says(lambda case: float(sides[case.item_id]) if case.item_id != wrong else 1.0 - sides[wrong])
    found, filters = filter_answers(answers, prompts, run, judge)
    check(found, TraitAnswers)
    by = {r["filter"]: r for r in check(filters, TraitFilters).iter_rows(named=True)}
    assert (by["judge"]["used"], by["instructions"]["used"]) == (True, False)
    assert by["judge"]["auroc"] == pytest.approx(1.0 - 12 / 144, abs=0.05)
    # the one that is on the other side goes, and its partner with it
    gone = answers.filter(answer_id=wrong)["question_id"].item()
    assert found.filter(~pl.col("kept"))["question_id"].unique().to_list() == [gone]


def test_a_judge_that_orders_well_and_says_yes_to_everything_keeps_what_it_orders(written):
    _, prompts, answers, run = written
    sides = sides_of(answers)
    found, filters = filter_answers(answers, prompts, run, Says(lambda case: 0.9 + 0.05 * sides[case.item_id]))
    assert filters.filter(filter="judge")["used"].item()
    assert found["kept"].all()


@pytest.mark.parametrize("says", [lambda case: 1.0, lambda case: None])
def test_a_judge_that_cannot_tell_is_not_used_and_the_instructions_filter(written, says):
    _, prompts, answers, run = written
    found, filters = filter_answers(answers, prompts, run, Says(says))
    by = {r["filter"]: r for r in filters.iter_rows(named=True)}
    assert (by["judge"]["used"], by["instructions"]["used"]) == (False, True)
    assert by["judge"]["auroc"] in (0.5, None)
    assert by["instructions"]["low"] > 0.5
    assert found["kept"].sum() > 12


def test_a_guessing_judge_is_hardly_ever_taken_for_one(written):
    _, prompts, answers, run = written
    rng, used = np.random.default_rng(0), 0
    scored = filter_answers(answers, prompts, run, None)[1]
    for _ in range(40):
        values = dict(zip(answers["answer_id"], rng.random(answers.height), strict=True))
        _, filters = filter_answers(answers, prompts, run, Says(lambda case, v=values: v[case.item_id]))
        used += bool(filters.filter(filter="judge")["used"].item())
    # the lower end of a 95 % interval is above chance in 2.5 % of worlds, of few questions in some more
    assert used <= 5
    assert scored["filter"].to_list() == ["instructions"]


def test_the_instructions_score_is_how_much_likelier_an_answer_is_under_the_one(written):
    _, prompts, answers, run = written
    found, _ = filter_answers(answers, prompts, run, None)
    row = found.row(0, named=True)
    sides = dict(prompts.filter(role="instruction", pair=row["pair"]).select("side", "text").iter_rows())
    decoding = {"max_new_tokens": 1, "temperature": 0.0, "top_p": 1.0, "min_p": 0.0}
    from schemas.specs import Decoding

    plans = [
        Plan(
            run.asking.model_identity,
            Decoding(**decoding),
            (Message("system", sides[s]), Message("user", row["question"])),
        )
        for s in (1, 0)
    ]
    one, other = score_all(plans, [row["text"]] * 2, run.asking, 1)
    assert row["value"] == pytest.approx(np.mean(one) - np.mean(other), abs=1e-4)


def test_a_model_that_answers_no_differently_leaves_no_pair_and_says_so(written):
    own, prompts, _answers, run = written
    # the same instruction on both sides changes nothing
    same = prompts.with_columns(
        text=pl.when(pl.col("role") == "instruction").then(pl.lit("You are a person.")).otherwise("text")
    )
    deaf = write_answers(own.source, same, run)
    found, filters = filter_answers(deaf, same, run, None)
    assert filters["auroc"].item() == 0.5
    assert not found["kept"].any()
    with pytest.raises(SteerworksError, match=r"behavior 'glad': 0 pairs.*0 of 24 answers are kept.*AUROC 0.50"):
        build_contrasts(own, Written(found, filters))


def test_refusals_and_empty_answers_are_rows_and_are_counted(written):
    own, prompts, answers, run = written
    texts = ["I'm sorry, but I can't help with that.", "", *answers["text"].to_list()[2:]]
    failures = ["refusal", "empty"] + [None] * (answers.height - 2)
    broken = answers.with_columns(text=pl.Series(texts), failure=pl.Series(failures, dtype=pl.String))
    found, filters = filter_answers(broken, prompts, run, None)
    assert found["value"][:2].to_list() == [None, None]
    assert not found["kept"][:2].any()
    built = build_contrasts(own, Written(found, filters))
    said = {r["check"]: r["detail"] for r in built.integrity.iter_rows(named=True)}
    assert said["refusals"] == "1 of 24 answers decline"
    assert said["no_answer"].startswith("1 of 24")


# --- pairs and items


def test_kept_answers_are_pairs_to_fit_on_and_the_other_questions_items(written):
    own, prompts, answers, run = written
    found, filters = filter_answers(answers, prompts, run, None)
    built = build_contrasts(own, Written(found, filters))
    kept = found.filter("kept", pl.col("split") != "test", pl.col("side") == 1)
    assert built.preferences.height == kept.height
    chosen = dict(kept.select("question", "text").iter_rows())
    for row in built.preferences.iter_rows(named=True):
        assert row["chosen"] == chosen[json.loads(row["messages"])[0]["content"]]
    items = built.items.filter(form="open")
    assert items.height == 4
    tested = set(found.filter(split="test")["question"])
    assert {json.loads(m)[0]["content"] for m in items["messages"]} == tested
    assert built.items.filter(form="pair").height == found.filter("kept", split="test", side=1).height
    checks = {r["check"]: r["passed"] for r in built.integrity.iter_rows(named=True)}
    assert checks["told_apart_by_instructions"]
    assert checks["yield"]


def test_a_described_behavior_without_what_was_written_says_what_it_needs():
    with pytest.raises(SteerworksError, match="behavior 'glad': its pairs are written by a model"):
        build_contrasts(behavior())
