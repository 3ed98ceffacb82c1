"""Items x arms without a behavior: any items, any settings, any measure, each written, scored and measured once."""

import polars as pl
import pytest
from behavior_world import DECODING, CheerfulBackend, make_vector

from schemas import ArmAnswers, ArmScores, Responses
from steer_core.evaluation.arms import Arm, Asked, Item, pair
from steer_core.evaluation.arms.answers import write
from steer_core.evaluation.arms.choices import score
from steer_core.evaluation.arms.measures import form_scores, kl_scores, perplexity_scores, text_scores
from steer_core.generation.run import Run
from steer_core.steering.intervention import Intervention
from steer_core.steering.plan import Extension, Message
from steer_core.tables import Journal, SteerworksError, check

VECTOR = make_vector()
PUSHED = (Intervention("add", VECTOR.id, 1, 2.0),)


def turns(text):
    return (Message("user", text),)


ITEMS = [
    Item("q1", "trivia", "easy", turns("What is told?")),
    Item("q2", "trivia", "hard", turns("And then?")),
    Item("c1", "choices", "all", turns("Which?"), ("(A", "(B", "(A and (B"), "three"),
]
ARMS = [
    Arm("plain", "trivia"),
    Arm("pushed", "trivia", interventions=PUSHED),
    Arm("asked", "trivia", system="You are a cheerful person."),
    Arm("choosing", "choices", interventions=PUSHED),
]


@pytest.fixture
def run(tmp_path):
    backend = CheerfulBackend()
    backend.add_vectors([VECTOR])
    return Run(Journal(str(tmp_path), Responses), backend, seed=3)


def test_arms_meet_the_items_of_their_set_and_open_ones_are_written(run):
    asked = pair(ARMS, ITEMS)
    assert [(a.arm.arm_id, a.item.item_id) for a in asked] == [
        (arm, item) for arm in ("plain", "pushed", "asked") for item in ("q1", "q2")
    ] + [("choosing", "c1")]
    written = write(asked, run, DECODING, samples=2)
    check(written.answers, ArmAnswers)
    assert written.answers.height == 3 * 2 * 2
    # a sample has one seed in every arm, so that arms differ by what is done
    seeds = written.answers.join(written.responses, on="response_id").group_by("item_id", "sample_index").agg("seed")
    assert all(len(set(s)) == 1 for s in seeds["seed"])


def test_what_does_not_fit_the_context_has_no_figure_and_keeps_nobody_from_theirs(run, monkeypatch):
    asked = pair(ARMS, ITEMS)
    written = write(asked, run, DECODING)
    score_rows, diverge_rows = run.backend.score, run.backend.diverge

    def some(verb):
        # the second item's rows do not fit
        return lambda plans, texts, *against: [
            [] if "And then?" in p.messages[-1].content or t == "(A and (B" else n
            for p, t, n in zip(plans, texts, verb(plans, texts, *against), strict=True)
        ]

    monkeypatch.setattr(run.backend, "score", some(score_rows))
    monkeypatch.setattr(run.backend, "diverge", some(diverge_rows))
    for found in (perplexity_scores(written, asked, run, DECODING), kl_scores(written, asked, run, DECODING)):
        check(found, ArmScores)
        assert set(found.filter(found["value"].is_null())["item_id"]) == {"q2"}
        assert found.filter(found["value"].is_not_null() & (found["item_id"] == "q1")).height > 0
    chosen = score(asked, run, DECODING, lambda item, own: [("first", own[0][0]), ("last", own[-1][0])])
    assert chosen["measure"].to_list() == ["first", "last"]
    assert chosen["value"].to_list() == [None, None]


def test_any_measure_of_texts_choices_and_the_model_becomes_rows(run):
    asked = pair(ARMS, ITEMS)
    written = write(asked, run, DECODING)
    seen = []

    def measure(texts):
        seen.extend(texts)
        return [{"words": float(len(t.split())), "odd": None} for t in texts]

    words = text_scores(written, asked, measure)
    assert len(seen) == len(set(seen)) == written.answers["text"].n_unique()
    assert set(words["measure"]) == {"words", "odd"}
    assert words.filter(measure="odd")["value"].null_count() == 6

    def best(item, scores):
        assert item.form == "three"
        return [("best", float(max(range(len(scores)), key=lambda k: sum(scores[k]))))]

    chosen = score(asked, run, DECODING, best)
    assert chosen.select("arm_id", "item_id", "measure").rows() == [("choosing", "c1", "best")]
    # what has a prompt of its own is held against the item's, token by token
    kl = kl_scores(written, asked, run, DECODING)
    assert dict(kl.group_by("arm_id").agg(pl.col("value").mean()).iter_rows())["asked"] == pytest.approx(0.3)
    assert set(kl["arm_id"]) == {"plain", "pushed", "asked"}
    for rows in (words, chosen, kl, form_scores(written, asked), perplexity_scores(written, asked, run, DECODING)):
        check(rows, ArmScores)


def test_examples_stand_between_the_items_system_prompt_and_its_turns():
    shown = (Message("user", "q"), Message("assistant", "a"))
    asked = (Message("system", "Own."), Message("user", "Now?"))
    plan = Asked(Arm("shown", "trivia", turns=shown), Item("i", "trivia", "main", asked)).plan("m", DECODING)
    assert [(m.role, m.content) for m in plan.messages] == [
        ("system", "Own."), ("user", "q"), ("assistant", "a"), ("user", "Now?"),
    ]  # fmt: skip
    both = Asked(Arm("both", "trivia", "Be kind.", turns=shown), Item("i", "trivia", "main", asked)).plan("m", DECODING)
    assert both.messages[0].content == "Be kind.\n\nOwn."
    assert not Arm("shown", "trivia", turns=shown).compared


def test_what_an_arm_does_stands_in_its_plans_and_an_engine_that_cannot_refuses(run):
    rule = Extension("guidance", {"scale": 2.0, "messages": []})
    arm = Arm("worn", "trivia", "Be kind.", PUSHED, "digest", (rule,))
    plan = pair([arm], ITEMS)[0].plan("m", DECODING)
    assert [m.role for m in plan.messages] == ["system", "user"]
    assert (plan.interventions, plan.adapter, plan.extensions) == (PUSHED, "digest", (rule,))
    with pytest.raises(SteerworksError, match="cheerful backend cannot load adapters"):
        write(pair([arm], ITEMS), run, DECODING)
