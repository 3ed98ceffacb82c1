"""Candidates by characteristics of texts and scores of toxicity: known by name, measured once, missing with a reason."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from schemas.recipes import InheritanceRecipe
from schemas.specs import Decoding
from steer_core.adapters.inheritance import measures
from steer_core.adapters.inheritance.candidates import Drawn, measured
from steer_core.adapters.inheritance.selection import select
from steer_core.adapters.recipe import follows, train, unknown
from steer_core.adapters.run import RunFolder
from steer_core.evaluation.profiles import profile_texts
from steer_core.evaluation.profiles.scorer import load_scorer
from steer_core.evaluation.profiles.value import Missing
from steer_core.methods.parts._adapter_job import run_digest
from steer_core.steering import Message, Plan
from steer_core.tables.errors import ConfigError, SteerworksError
from tests.steer_core.adapters import inheritance_world
from tests.steer_core.adapters.grpo_world import SPEC, training

ROOT = Path(__file__).parents[3]
TOXICITY = "scorer:char-ngram:toxicity"


def recipe(metric, direction="max", **more):
    aim = {"metric": metric, "direction": direction}
    return InheritanceRecipe.model_validate({"objectives": [aim], "duplicates": None, **more})


def drawn(*texts):
    return [Drawn("r0", k, text, "stop", (1,), -1.0) for k, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"metric": "text:"}, "unknown metric 'text:'"),
        ({"metric": "scorer:char-ngram"}, "text:METRIC, scorer:NAME:ATTRIBUTE"),
        ({"metric": "text:n_words", "scorers": {"lexicon": {}}}, "options of lexicon, which no objective or floor"),
        ({"metric": "meaning", "prompts": {}}, "'meaning' is of an answer to a request"),
        ({"metric": "text:n_words", "prompts": {"path": "own.csv"}}, "'own.csv', is relative"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_the_recipe(wrong, said):
    with pytest.raises(ValidationError, match=said):
        recipe(**wrong)


@pytest.mark.parametrize(
    ("metric", "scorers", "said"),
    [
        ("text:nonsense", {}, "metrics of texts are: .*mtld, mtld_published"),
        ("text:readability", {}, "unknown metric 'text:readability'"),
        ("text:model_perplexity", {}, "no value of any answer: no log-probabilities"),
        ("scorer:nobody:toxicity", {}, "there are: char-ngram, classifier, lexicon, stored"),
        ("scorer:char-ngram:kindness", {}, "has no 'kindness'; it scores toxicity"),
        (TOXICITY, {"char-ngram": {"unit": "page"}}, "option 'unit'"),
        ("scorer:stored:toxicity", {}, "needs the option 'path'"),
    ],
)
def test_what_there_is_not_is_said_with_what_there_is(metric, scorers, said, tmp_path):
    (found,) = unknown(recipe(metric, scorers=scorers))
    assert re.search(said, found)
    run = training(tmp_path / "run", load=lambda: pytest.fail("said before the model is loaded"))
    with pytest.raises(ConfigError, match=said):
        train(recipe(metric, scorers=scorers), run)


def test_names_are_checked_without_loading_a_model_and_what_is_there_is_not_refused():
    code = (
        "import sys; from schemas.recipes import InheritanceRecipe; from steer_core.adapters.recipe import unknown\n"
        "aims = [{'metric': m, 'direction': 'max'} for m in ('text:mtld', 'scorer:char-ngram:insult')]\n"
        "late = [{'metric': 'scorer:classifier:unheard_of', 'least': 0.5}]\n"
        "own = {'objectives': aims, 'floors': late, 'scorers': {'classifier': {'model': 'a/b', 'revision': 'c'}}}\n"
        "print(list(unknown(InheritanceRecipe.model_validate(own))))\n"
        "print([m for m in ('torch', 'transformers', 'sklearn', 'pandera') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert found.splitlines() == ["[]", "[]"]


def test_values_are_those_of_profiles_and_the_best_by_them_is_chosen(tmp_path):
    texts = ["The dog saw the dog and the dog.", "A clerk reads old letters at home.", "You stupid worthless idiot."]
    both = recipe("text:type_token_ratio", floors=[{"metric": TOXICITY, "most": 0.5}])
    found = measured(drawn(*texts), training(tmp_path), both)
    frame = pl.DataFrame({"text_id": texts, "text": texts})
    ratios = profile_texts(frame, ["type_token_ratio"])["value"].to_list()
    scores = [m["toxicity"] for m in load_scorer("char-ngram").score(texts)]
    assert [c.metrics["text:type_token_ratio"] for c in found] == ratios
    assert [c.metrics[TOXICITY] for c in found] == scores
    assert max(scores[:2]) < 0.5 < scores[2]
    # the third has no word twice either, and its score is above the floor
    assert ratios[2] == 1.0
    chosen = select(found, both)
    assert chosen.chosen == {"r0": 1}
    assert chosen.counts["below_floor"] == 1
    by_sentence = recipe(TOXICITY, scorers={"char-ngram": {"unit": "sentence"}})
    rude = f"{texts[1]} {texts[2]}"
    (one,) = measured(drawn(rude), training(tmp_path), by_sentence)
    assert one.metrics[TOXICITY] == pytest.approx(scores[2])


class Counting:
    """A scorer that remembers what it was asked, and knows no text with a `?`."""

    name, version, attributes, tested = "counting", "1", ("toxicity",), "by nobody"

    def __init__(self):
        self.asked = []

    def score(self, texts):
        self.asked += texts
        return [{"toxicity": Missing("a question") if "?" in t else 0.25 if "b" in t else 0.75} for t in texts]


def test_each_text_is_scored_once_failed_ones_never_and_what_is_missing_is_counted(tmp_path, monkeypatch):
    own = Counting()
    monkeypatch.setattr(measures, "load_scorer", lambda name, **options: own)
    monkeypatch.setattr(measures, "knows_late", lambda name: False)
    aim = recipe("scorer:counting:toxicity", "min", floors=[{"metric": "text:mtld", "least": 0.0}])
    long = " ".join(f"the word{i} of many" for i in range(20))
    texts = [f"a {long}", f"b {long}", f"a {long}", "b is short.", f"why {long}?", ""]
    rows = drawn(*texts)
    rows += [replace(rows[0], request_id="r1", raw="cut off", unfit="too long")]
    found = measured(rows, training(tmp_path), aim)
    assert sorted(own.asked) == sorted({t for t in texts if t})
    chosen = select(found, aim)
    assert chosen.chosen == {"r0": 1}
    assert [chosen.state(i) for i in range(7)] == ["dropped", "kept", "dropped", *["unscorable"] * 4]
    assert (chosen.counts["failed"], chosen.counts["undefined"]) == (2, 2)
    assert chosen.reasons["scorer:counting:toxicity: a question"] == 1
    (why,) = [r for r in chosen.reasons if r.startswith("text:mtld: ")]
    assert chosen.reasons[why] == 1
    with pytest.raises(SteerworksError, match="1 have no scorer:counting:toxicity: a question"):
        select(found[4:5], aim)


def test_another_version_of_a_scorer_is_another_adapter(monkeypatch):
    aim, other = recipe(TOXICITY), recipe("length")
    assert follows(aim) == [["char-ngram", load_scorer("char-ngram").version]]
    assert follows(other) == []
    assert [f[0] for f in follows(recipe("text:n_words", floors=[{"metric": TOXICITY, "most": 0.5}]))] == [
        "text",
        "char-ngram",
    ]
    before = [run_digest(r, SPEC, "data", {}) for r in (aim, other)]
    assert before == [run_digest(r, SPEC, "data", {}) for r in (aim, other)]
    newer = Counting()
    monkeypatch.setattr(measures, "load_scorer", lambda name, **options: newer)
    after = [run_digest(r, SPEC, "data", {}) for r in (aim, other)]
    assert after[0] != before[0]
    assert after[1] == before[1]


def test_prompts_that_are_no_requests_are_learnt_and_have_neither_error_nor_meaning(tmp_path):
    asked = Decoding(max_new_tokens=12)
    plans = {
        f"item:{k}": Plan(SPEC.identity, asked, (Message("user", f"Write about {what}."),))
        for k, what in enumerate(("a dog", "the town", "music"))
    }
    said = []
    own = inheritance_world.recipe(objectives=[{"metric": "text:n_characters", "direction": "max"}], epochs=1)
    states = train(own, training(tmp_path / "run", plans=plans, targets={}, say=said.append))
    run = RunFolder(tmp_path / "run")
    assert sorted(states)
    samples = run.rows("samples")
    assert {s["request_id"] for s in samples} == set(plans)
    assert not any(s["copied"] for s in samples)
    values = {(m["sample"], m["measure"]): m["value"] for m in run.rows("measures")}
    for request in plans:
        own_rows = [s for s in samples if s["request_id"] == request]
        best = max(len("".join(s["text"].split())) for s in own_rows)
        assert [values[s["sample"], "metric:text:n_characters"] for s in own_rows if s["state"] == "kept"] == [best]
    assert all(
        v is None or np.isnan(v) for (_, m), v in values.items() if m in ("metric:meaning", "metric:steering_error")
    )
    log = {r["measure"]: r["value"] for r in run.rows("log") if r["step"] == 1}
    assert log["chosen:text:n_characters"] > log["pool:text:n_characters"]
    assert log["best_of:text:n_characters:4"] == pytest.approx(log["chosen:text:n_characters"])
