"""From answers to scores: what is blank, what fails, what a scorer gets wrong; agreement; and AUC with its interval."""

import numpy as np
import polars as pl
import pytest

from steer_core import extensions
from steer_core.evaluation.profiles import scorer as scoring
from steer_core.evaluation.profiles.agreement import agreement
from steer_core.evaluation.profiles.discrimination import LabelledText, auc_interval, discrimination
from steer_core.evaluation.profiles.scorer import load_scorer, score_answers, score_texts, scorer_label
from steer_core.evaluation.profiles.toxicity import SCORES, missing_scores, toxicity_curves
from steer_core.evaluation.profiles.value import Missing
from steer_core.goals.errors import ScorerUnavailableError
from steer_core.tables.errors import ConfigError, SteerworksError


class Counting:
    """Scores a text by its length, fails on what begins with `bad`, and keeps what it was asked."""

    name, version, tested = "counting", "1", "not at all"
    attributes = ("toxicity", "insult")

    def __init__(self, value=None, error=None):
        self.asked, self.value, self.error = [], value, error or RuntimeError("it broke")

    def score(self, texts):
        self.asked.append(list(texts))
        if any(t.startswith("bad") for t in texts):
            raise self.error
        return [{a: self.value or min(1.0, len(t) / 100) for a in self.attributes} for t in texts]


def answers(*texts):
    n = len(texts)
    return pl.DataFrame(
        {
            "prompt_id": [f"p{i}" for i in range(n)],
            "cluster": ["c"] * n,
            "sample": [0] * n,
            "text": pl.Series(texts, dtype=pl.String),
        }
    )


def test_each_text_is_scored_once_and_blank_ones_are_missing_not_zero():
    counting = Counting()
    rows = score_answers(counting, answers("hello", " \n", "hello", None, ""))
    assert counting.asked == [["hello"]]
    assert rows.columns == list(SCORES)
    toxic = rows.filter(attribute="toxicity").sort("prompt_id")
    assert toxic["score"].to_list() == [0.05, None, 0.05, None, None]
    assert toxic["reason"].to_list() == [None, "empty", None, "no text", "empty"]
    assert set(rows["scorer"] + rows["scorer_version"]) == {"counting1"}
    assert len(score_answers(counting, answers())) == 0


def test_texts_that_fail_are_tried_once_more_alone_and_the_others_stand(monkeypatch):
    monkeypatch.setattr(scoring, "BLOCK", 3)
    counting = Counting()
    rows = score_answers(counting, answers("one", "bad two", "three", "four")).filter(attribute="insult")
    assert counting.asked == [["one", "bad two", "three"], ["one"], ["bad two"], ["three"], ["four"]]
    assert rows["score"].is_null().to_list() == [False, True, False, False]
    assert rows["reason"][1] == "scorer failed: RuntimeError: it broke"
    assert missing_scores(rows)["n_missing"].to_list() == [1]
    assert toxicity_curves(rows).filter(measure="emt", reading="complete")["n"].to_list() == [3]


def test_a_scorer_that_only_fails_is_asked_no_more(monkeypatch):
    monkeypatch.setattr(scoring, "GIVE_UP", 2)
    counting = Counting()
    marks = score_texts(counting, [f"bad {i}" for i in range(5)])
    assert len(counting.asked) == 3
    assert (
        marks["bad 4"]["toxicity"] == "not scored: 2 texts in a row failed before it, the last: RuntimeError: it broke"
    )


@pytest.mark.parametrize("error", [ConfigError("wrong label"), ScorerUnavailableError("no such model")])
def test_a_scorer_that_cannot_run_is_an_error(error):
    with pytest.raises(type(error), match=str(error)):
        score_texts(Counting(error=error), ["bad"])


@pytest.mark.parametrize("value", [1.5, -0.1, float("nan"), "high"])
def test_a_value_that_is_none_is_missing(value):
    marks = score_texts(Counting(value=value), ["text"])["text"]["toxicity"]
    assert isinstance(marks, Missing)
    assert "no number in [0, 1]" in marks


def test_a_wrong_number_of_results_and_a_lacking_attribute_are_missing():
    short = Counting()
    short.score = lambda texts: []
    assert "0 results for 1 texts" in score_texts(short, ["a"])["a"]["insult"]
    short.score = lambda texts: [{"toxicity": 0.5}] * len(texts)
    assert score_texts(short, ["a"])["a"] == {"toxicity": 0.5, "insult": "scorer gave no insult"}


def test_bad_tables_and_names_are_said():
    with pytest.raises(SteerworksError, match="answers without cluster"):
        score_answers(Counting(), answers("a").drop("cluster"))
    with pytest.raises(SteerworksError, match="a sample twice"):
        score_answers(Counting(), pl.concat([answers("a"), answers("a")]))
    with pytest.raises(ConfigError, match=r"unknown scorer of toxicity 'lexicom'.*Did you mean 'lexicon'"):
        load_scorer("lexicom")
    with pytest.raises(ConfigError, match="unknown option 'folders'"):
        load_scorer("char-ngram", folders="x")
    assert scorer_label(Counting(), "insult") == "insult (counting 1)"
    with pytest.raises(ConfigError, match="it scores toxicity, insult"):
        scorer_label(Counting(), "threat")


def test_a_scorer_of_ones_own_is_a_file_of_a_folder(tmp_path, monkeypatch):
    (tmp_path / "scorers").mkdir()
    (tmp_path / "scorers" / "shouting.py").write_text(
        "class Shouting:\n"
        "    name, version, attributes, tested = 'shouting', '1', ('capitals',), 'on nothing'\n"
        "    def score(self, texts):\n"
        "        return [{'capitals': sum(map(str.isupper, t)) / len(t)} for t in texts]\n"
        "def build():\n"
        "    return Shouting()\n"
    )
    monkeypatch.setattr(extensions, "_FOLDERS", [])
    extensions.add_folders([tmp_path])
    assert {"char-ngram", "classifier", "lexicon", "shouting", "stored"} <= set(extensions.available("scorers"))
    rows = score_answers(load_scorer("shouting"), answers("ABcd"))
    assert rows.row(0, named=True) == {
        **{"prompt_id": "p0", "cluster": "c", "sample": 0, "scorer": "shouting", "scorer_version": "1"},
        **{"attribute": "capitals", "score": 0.5, "reason": None},
    }
    monkeypatch.undo()
    extensions.available.cache_clear()


def pair(one, other):
    rows = []
    for name, scores in (("a", one), ("b", other)):
        for i, s in enumerate(scores):
            rows.append((f"p{i // 2}", f"p{i // 2}", i, name, "1", "toxicity", s, None if s is not None else "empty"))
    return pl.DataFrame(rows, schema=SCORES, orient="row")


def test_agreement_is_tau_b_over_what_both_scored():
    # of the pairs (0, 1), (0, 2), (1, 2): two concordant, one tied by b; sqrt(3 * 2)
    found = agreement(pair([0.1, 0.2, 0.3, 0.9], [0.4, 0.5, 0.5, None])).row(0, named=True)
    assert found["tau"] == pytest.approx(2 / np.sqrt(6))
    assert (found["n"], found["n_prompts"], found["n_left_out"], found["missing"]) == (3, 2, 1, None)
    assert agreement(pair([0.1, 0.2], [0.9, 0.3]))["tau"][0] == -1


def test_agreement_without_an_order_says_so():
    assert "the same score" in agreement(pair([0.1, 0.2], [0.5, 0.5]))["missing"][0]
    assert "fewer than two" in agreement(pair([0.1, None], [0.5, 0.5]))["missing"][0]
    assert len(agreement(pair([0.1, 0.2], []))) == 0


def test_auc_counts_ties_half_and_needs_both_classes():
    texts = [LabelledText("a" * n, frozenset({"toxicity"} if toxic else ())) for n, toxic in ((9, 1), (5, 1), (2, 0))]
    found = discrimination(Counting(), [*texts, LabelledText("b" * 5, frozenset()), LabelledText("", frozenset())])
    toxic, insult = found.rows(named=True)
    assert toxic["auc"] == pytest.approx(3.5 / 4)
    assert (toxic["n_positive"], toxic["n_negative"], toxic["n_missing"]) == (2, 2, 1)
    assert insult["auc"] is None


def test_an_interval_of_an_auc_covers_and_is_never_a_point():
    low, high = auc_interval(1.0, 20, 20)
    assert 0.8 < low < 0.95
    assert high == pytest.approx(1.0)
    rng, true, covered = np.random.default_rng(0), 0.8554, 0
    for _ in range(400):
        # normal values 1.5 apart: the chance that one is above the other is Phi(1.5 / sqrt 2)
        above = rng.normal(1.5, 1, 20)[:, None] > rng.normal(0, 1, 60)[None]
        low, high = auc_interval(above.mean(), 20, 60)
        covered += low <= true <= high
    assert 0.91 <= covered / 400 <= 0.99
    with pytest.raises(ValueError, match="has no interval"):
        auc_interval(0.5, 0, 3)
