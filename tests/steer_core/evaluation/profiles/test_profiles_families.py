"""Families of metrics that need something, quality flags, and the table of all of them."""

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from schemas import TextProfiles
from steer_core import extensions
from steer_core.evaluation.profiles import Resources, describe_metrics, profile_texts
from steer_core.evaluation.profiles.families import dependency, diversity, information, quality, readability
from steer_core.evaluation.profiles.families.coherence import coherence
from steer_core.evaluation.profiles.reading import Reader
from steer_core.evaluation.profiles.repetition import ngram_shares, repeated_share
from steer_core.goals.errors import ScorerUnavailableError, ScoringError
from steer_core.tables import ContractError, check
from steer_core.tables.errors import ConfigError, SteerworksError
from tests.steer_core.evaluation.profiles.texts_world import PROSE, table, values

ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def reader():
    return Reader()


# quality


def test_shares_of_a_text_worked_out_by_hand(reader):
    # the second "red fox." is 8 of 3 x 8 - 4 characters of lines
    assert repeated_share(["red fox.", "blue", "red fox."]) == pytest.approx(8 / 20)
    # a a a a: the pair comes three times and covers all, where length times count would be 9 / 7
    assert ngram_shares(["a"] * 4)[0] == 1.0
    found = values("- one fish\n\n- two fish\nand so on ...\n**bold** # word", reader)
    assert (found["proportion_bullet_points"], found["proportion_ellipsis"]) == (0.5, 0.25)
    assert found["hash_to_word_ratio"] == pytest.approx(1 / 9)


def test_thresholds_hold_at_their_ends_and_missing_flags_decide_nothing():
    assert quality.passes({"alpha_ratio": 0.7, "top_ngram_chr_fraction_4": 0.16}, 10)
    assert not quality.passes({"alpha_ratio": 0.69}, 10)
    assert not quality.passes({}, 9)
    assert quality.passes({"duplicate_ngram_chr_fraction_10": 0.10, "duplicate_ngram_chr_fraction_5": 0.15}, 50)
    assert not quality.passes({"duplicate_ngram_chr_fraction_10": 0.11}, 50)


def test_ordinary_prose_passes_and_filler_does_not(reader):
    assert values(PROSE, reader)["passed_quality_check"] == 1.0
    assert values(f"{PROSE} Lorem ipsum dolor.", reader)["passed_quality_check"] == 0.0


# families that need something


def test_without_what_they_need_families_say_what_that_is(reader):
    found = values(PROSE, reader)
    assert "Resources.embed" in found["first_order_coherence"]
    assert "Resources.parse" in found["dependency_distance_mean"]
    assert "Resources.unigrams" in found["unigram_perplexity"]
    assert "Resources.log_probs" in found["model_perplexity"]


def test_coherence_is_the_mean_cosine_of_sentences_and_a_zero_vector_has_none(reader):
    vectors = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 2.0], [0.0, 0.0]])
    assert coherence(vectors, 1) == pytest.approx(math.sqrt(0.5))
    assert coherence(vectors, 2) == 0.0
    assert coherence(np.zeros((3, 2)), 1) == "no two such sentences have a vector that is not zero"
    asked = []

    def embed(sentences):
        asked.append(list(sentences))
        return np.array([[len(s), 1.0] for s in sentences])

    rows = profile_texts(table(PROSE, PROSE, "One."), ["coherence"], resources=Resources(embed=embed), reader=reader)
    assert asked == [[*PROSE.replace(". ", ".|").split("|"), "One."]]
    assert rows["missing"].to_list() == [None] * 4 + ["fewer than 2 sentences", "fewer than 3 sentences"]
    with pytest.raises(SteerworksError, match=r"shape \(2, 1\) for 3 sentences"):
        values(PROSE, reader, resources=Resources(embed=lambda s: np.ones((2, 1))))


def test_dependency_distance_leaves_the_root_out(reader):
    # "the dog barks": heads dog, barks, root
    found = values("The dog barks.", reader, ["dependency"], Resources(parse=lambda _: [[1, 2, 2], [0], [2, 2, 2]]))
    assert found["dependency_distance_mean"] == pytest.approx((1.0 + 1.5) / 2)
    assert found["prop_adjacent_dependency_relation_mean"] == pytest.approx((1.0 + 0.5) / 2)
    assert values("Go", reader, ["dependency"], Resources(parse=lambda _: [[0]]))["dependency_distance_std"].startswith(
        "no"
    )
    with pytest.raises(SteerworksError, match="head at 7 in a sentence of 2 words"):
        dependency.distances([0, 7])
    with pytest.raises(ScorerUnavailableError, match="no_such_model"):
        dependency.spacy_parser("no_such_model")


def test_perplexity_under_a_model_by_token_word_and_character(reader):
    given = Resources(log_probs=lambda texts: [[-1.0, -2.0, -3.0] for _ in texts])
    found = values("ab cd", reader, ["information"], given)
    assert found["model_perplexity"] == pytest.approx(math.exp(2))
    assert found["model_perplexity_per_word"] == pytest.approx(math.exp(3))
    assert found["model_bits_per_character"] == pytest.approx(6 / math.log(2) / 4)
    assert information.perplexity([-800.0]) == "beyond the largest number"
    with pytest.raises(SteerworksError, match="at most 0"):
        values("ab", reader, resources=Resources(log_probs=lambda texts: [[0.5]]))


def test_word_probabilities_of_a_corpus_sum_to_one():
    counted = information.count_words(["The cat and the dog.", "A cat!"])
    assert math.fsum([*map(math.exp, counted.log_probs.values()), math.exp(counted.unknown)]) == pytest.approx(1)
    with pytest.raises(SteerworksError, match="corpus with words"):
        information.count_words(["...", ""])


# the table


def test_metrics_and_families_are_chosen_by_name(reader):
    rows = profile_texts(table(PROSE), ["lix", "diversity"], reader=reader)
    assert rows["metric"].to_list() == [*diversity.Diversity.metrics, "lix"]
    with pytest.raises(ConfigError, match="unknown metric 'mltd'"):
        profile_texts(table(PROSE), ["mltd"])


def test_bad_tables_and_values_are_refused(reader, monkeypatch):
    with pytest.raises(SteerworksError, match="string columns `text_id` and `text`"):
        profile_texts(pl.DataFrame({"text": ["a"]}))
    with pytest.raises(SteerworksError, match="column 'text' of the texts to profile has 1 null"):
        profile_texts(pl.DataFrame({"text_id": ["a", "b"], "text": ["x", None]}))
    monkeypatch.setattr(readability, "lix", lambda *_: math.nan)
    with pytest.raises(ScoringError, match="metric 'lix' is nan for text_id t0"):
        profile_texts(table(PROSE), ["lix"], reader=reader)


@pytest.mark.parametrize(("value", "missing"), [(None, None), (1.0, "no words")])
def test_a_row_with_neither_value_nor_reason_or_with_both_breaks_the_contract(value, missing):
    row = pl.DataFrame(
        {"text_id": ["a"], "metric": ["lix"], "value": [value], "missing": [missing]}, schema=TextProfiles.dtypes()
    )
    with pytest.raises(ContractError, match="a value, or the reason"):
        check(row, TextProfiles)


def test_a_family_of_a_folder_is_found(tmp_path, monkeypatch, reader):
    (tmp_path / "characteristics").mkdir()
    (tmp_path / "characteristics" / "shouting.py").write_text(
        "class Shouting:\n"
        "    metrics = {'exclamations': 'signs !'}\n"
        "    def measure(self, readings):\n"
        "        return [(float(r.text.count('!')),) for r in readings]\n"
        "def build(resources):\n"
        "    return Shouting()\n"
    )
    monkeypatch.setattr(extensions, "_FOLDERS", [tmp_path])
    extensions.available.cache_clear()
    try:
        assert values("Oh! No!", reader, ["shouting"]) == {"exclamations": 2.0}
    finally:
        extensions.available.cache_clear()


def test_the_page_on_profiles_names_every_metric():
    page = (ROOT / "docs" / "profiles.md").read_text()
    assert [m for m in describe_metrics()["metric"] if f"`{m}`" not in page] == []
