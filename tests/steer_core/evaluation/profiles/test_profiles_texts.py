"""Characteristics of texts: published numbers, second implementations, invariances, and texts that are odd."""

import json
import math
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import TextProfiles
from steer_core.evaluation.profiles import Resources, UnigramTable, describe_metrics, profile_stream, profile_texts
from steer_core.evaluation.profiles.families import diversity, information, readability
from steer_core.evaluation.profiles.reading import Reader
from steer_core.evaluation.profiles.repetition import DUPLICATE, TOP, ngram_shares
from steer_core.goals.analysis import Analyzer
from steer_core.goals.scorers import text_length, textual_diversity
from steer_core.tables import check
from tests.steer_core.evaluation.profiles.texts_world import PROSE, table, values

ROOT = Path(__file__).parents[4]
GOLDEN = json.loads((ROOT / "tests" / "fixtures" / "profiles_textdescriptives.json").read_text())["texts"]


@pytest.fixture(scope="module")
def reader():
    return Reader()


# published numbers


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("one two three four five six", 6.0),
        ("a a a a a a a a", 2.0),
        ("the cat sat on the mat and the dog sat on the log", 13.0),
    ],
)
def test_mtld_has_the_published_values(text, value, reader):
    assert values(text, reader)["mtld_published"] == value


@pytest.mark.parametrize("row", GOLDEN, ids=range(len(GOLDEN)))
def test_indices_of_the_tools_counts_are_the_tools_indices(row):
    words, sentences, hard = row["n_tokens"], row["n_sentences"], row["hard_words"]
    asl, asw, cpw = row["sentence_length_mean"], row["syllables_per_token_mean"], row["token_length_mean"]
    assert readability.flesch_reading_ease(asl, asw) == pytest.approx(row["flesch_reading_ease"], rel=1e-12)
    assert readability.flesch_kincaid_grade(asl, asw) == pytest.approx(row["flesch_kincaid_grade"], rel=1e-9)
    assert readability.gunning_fog(asl, hard / words) == pytest.approx(row["gunning_fog"], rel=1e-12)
    assert readability.automated_readability_index(cpw, asl) == pytest.approx(row["automated_readability_index"])
    assert readability.coleman_liau_index(cpw, asl) == pytest.approx(row["coleman_liau_index"], rel=1e-9)
    if row["smog"] is not None:
        assert readability.smog(hard, sentences) == pytest.approx(row["smog"], rel=1e-12)


@pytest.mark.parametrize("row", GOLDEN, ids=range(len(GOLDEN)))
def test_what_asks_for_no_syllable_is_the_tools_from_the_text_on(row, reader):
    found = values(row["text"], reader)
    same = {"n_words": "n_tokens", "n_unique_words": "n_unique_tokens"}
    indices = ("automated_readability_index", "coleman_liau_index", "lix", "rix", "n_sentences", "n_characters")
    same |= {name: name for name in indices}
    for statistic in ("mean", "median", "std"):
        same[f"word_length_{statistic}"] = f"token_length_{statistic}"
        same[f"sentence_length_{statistic}"] = f"sentence_length_{statistic}"
    assert {m: found[m] for m in same} == pytest.approx({m: row[theirs] for m, theirs in same.items()}, rel=1e-9)


@pytest.mark.parametrize("row", GOLDEN, ids=range(len(GOLDEN)))
def test_the_published_entropy_is_reproduced(row):
    found = information.published_information(row["log_probs"])
    assert found == pytest.approx((row["entropy"], row["perplexity"], row["per_word_perplexity"]), rel=1e-5)


def test_the_published_entropy_grows_with_length_and_ours_does_not(reader):
    rows = GOLDEN[0]["log_probs"]
    assert information.published_information(rows * 3)[0] == pytest.approx(
        3 * information.published_information(rows)[0]
    )
    one, three = (values(" ".join([PROSE] * n), reader)["word_entropy"] for n in (1, 3))
    assert one == pytest.approx(three)
    assert information.perplexity(rows) == information.perplexity(rows * 3) == pytest.approx(math.exp(-np.mean(rows)))


# a second implementation


def mtld_again(words, threshold=0.72):
    """McCarthy and Jarvis, from the definition: every prefix of a segment is looked at anew."""

    def one_way(seq):
        done, start = 0.0, 0
        for end in range(1, len(seq) + 1):
            segment = seq[start:end]
            if len(set(segment)) / len(segment) <= threshold:
                done, start = done + 1, end
        rest = seq[start:]
        if rest:
            done += (1 - len(set(rest)) / len(rest)) / (1 - threshold)
        return len(seq) / (done if done else 1.0)

    return (one_way(list(words)) + one_way(list(reversed(words)))) / 2


WORDS = st.lists(
    st.sampled_from(["the", "of", "and", "to", "cat", "dog", "sees", "big", "red", "one"]), min_size=1, max_size=120
)


@settings(max_examples=60, deadline=None)
@given(WORDS)
def test_mtld_equals_a_second_implementation(words):
    assert diversity.published_mtld(words) == pytest.approx(mtld_again(words), rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(WORDS, st.integers(1, 20))
def test_moving_average_ttr_equals_its_windows(words, window):
    if len(words) >= window:
        ratios = [len(set(words[i : i + window])) / window for i in range(len(words) - window + 1)]
        assert diversity.moving_average_ttr(words, window) == pytest.approx(np.mean(ratios))


def ngrams_again(tokens):
    """Every sequence beside every other one, characters marked one by one."""
    owner = np.repeat(np.arange(len(tokens)), [len(t) for t in tokens])
    top, duplicate = [], []
    for n in range(2, 11):
        grams = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
        counts = {g: grams.count(g) for g in grams}

        def share(wanted, n=n, grams=grams):
            inside = {j for i, g in enumerate(grams) if g in wanted for j in range(i, i + n)}
            return np.isin(owner, list(inside)).mean()

        if n in TOP:
            most = max(counts.values(), default=0)
            top.append(max((share({g}) for g, c in counts.items() if c == most), default=0.0) if most >= 3 else 0.0)
        if n in DUPLICATE:
            duplicate.append(share({g for g, c in counts.items() if c > 1}))
    return (*top, *duplicate)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["a", "bb", "ccc", "."]), min_size=1, max_size=40))
def test_shares_of_sequences_equal_a_second_implementation(tokens):
    assert ngram_shares(tokens) == pytest.approx(ngrams_again(tokens))


def test_readability_of_a_text_counted_by_hand(reader):
    # 21 words in 3 sentences, 86 letters; syllables by hand; one hard word, one long
    found = values(PROSE, reader)
    syllables = [1, 2, 1, 1, 1, 1, 1, 2, 1, 2, 1, 1, 1, 2, 1, 2, 3, 1, 1, 1, 1]
    n, s, letters = 21, 3, sum(c.isalpha() for c in PROSE)
    assert found["n_syllables"] == sum(syllables)
    assert {k: found[k] for k in readability.Readability.metrics} == pytest.approx(
        {
            "flesch_reading_ease": 206.835 - 1.015 * n / s - 84.6 * sum(syllables) / n,
            "flesch_kincaid_grade": 0.39 * n / s + 11.8 * sum(syllables) / n - 15.59,
            "smog": 1.043 * math.sqrt(30 * 1 / s) + 3.1291,
            "gunning_fog": 0.4 * (n / s + 100 * 1 / n),
            "automated_readability_index": 4.71 * letters / n + 0.5 * n / s - 21.43,
            "coleman_liau_index": 0.0588 * 100 * letters / n - 0.296 * 100 * s / n - 15.8,
            "lix": n / s + 100 * 1 / n,
            "rix": 1 / s,
        }
    )


# what must not matter

TEXT = st.text(alphabet=st.sampled_from("abcdeXYZ .!?,'’-_\n\t019éßİ漢ע़&<>#*"), max_size=60)


@settings(max_examples=40, deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=4), st.randoms())
def test_neighbours_and_order_change_nothing_and_no_row_is_lost(texts, random):
    rows, shared = table(*texts), Reader()
    found = check(profile_texts(rows, reader=shared), TextProfiles)
    assert found.height == rows.height * describe_metrics().height
    order = list(range(len(texts)))
    random.shuffle(order)
    again = profile_texts(rows[order], reader=shared)
    assert again.sort("text_id", "metric").equals(found.sort("text_id", "metric"))


ADDS_UP = [
    "n_characters",
    "n_tokens",
    "n_words",
    "n_syllables",
    "n_sentences",
    "n_lines",
    "n_paragraphs",
    "n_stop_words",
]
LATIN = st.text(alphabet=st.sampled_from("abcdeXYZ .!?,'-_\n\t019&<>#*"), max_size=60)


@settings(max_examples=60, deadline=None)
@given(LATIN, LATIN)
def test_counts_of_two_texts_with_an_empty_line_between_add_up(one, two):
    shared = Reader()
    apart = [values(t, shared, ADDS_UP) for t in (one, two)]
    joined = values(f"{one}\n\n{two}", shared, ADDS_UP)
    assert joined == {m: apart[0][m] + apart[1][m] for m in ADDS_UP}


def test_batches_give_what_one_table_gives(reader):
    rows = table(*(f"{PROSE} And {i} more." for i in range(7)))
    parts = list(profile_stream([rows[:3], rows[3:3], rows[3:]], reader=reader))
    assert [p.height > 0 for p in parts] == [True, False, True]
    assert pl.concat(parts).equals(profile_texts(rows, reader=reader))


def test_goals_and_profiles_agree(reader):
    text = " ".join([PROSE] * 4)
    analyses = Analyzer().analyse_all([text])
    found = values(text, reader, ["n_tokens", "mtld"])
    assert [found["n_tokens"], found["mtld"]] == [
        text_length.build().measure(analyses)[0],
        textual_diversity.build().measure(analyses)[0],
    ]


# sentences


@pytest.mark.parametrize(
    ("text", "lengths"),
    [
        ("1. Raw apples\n2. Sliced to share\n3. Baked", [3, 4, 2]),
        ("# Apples\nThey are good. Dr. Smith says so.", [1, 3, 4]),
        ("One line\ngoes on here. ...\n\n!!!\nNext", [5, 1]),
        ("- a b\n* c d e\n\n• f", [2, 3, 1]),
    ],
)
def test_lists_headings_and_abbreviations(text, lengths, reader):
    reading = reader.read(text)
    assert reading.sentence_lengths == lengths
    assert len(reading.sentences) == len(lengths)
    assert " ".join(reading.sentences).split() == reading.text.split()


# odd texts

ODD = {
    "empty": "",
    "blank": " \n\t ",
    "marks": "!!! ... --",
    "emoji": "👩‍👩‍👧 🎉🎉",
    "one word": "Word",
    "one letter": "a",
    "digits": "12 345",
    "han": "漢字かな交じり文。今日は良い天気です。",
    "thai": "สวัสดีชาวโลก",
    "cyrillic": "Мы пошли домой. Потом мы ели хлеб. Было тепло.",
    "hebrew": "שלום עולם. זה משפט אחד.",
    "nul": "\x00\x01",
    "long word": "a" * 50_000,
    "unknown": "zzq frumbl wuggish zzq",
}


@pytest.mark.parametrize("kind", sorted(ODD))
def test_an_odd_text_has_every_metric_or_a_reason(kind, reader):
    rows = check(profile_texts(table(ODD[kind]), reader=reader), TextProfiles)
    assert rows["metric"].to_list() == describe_metrics()["metric"].to_list()


def test_a_blank_text_has_counts_of_zero_and_reasons_for_the_rest(reader):
    for text in ("", " \n "):
        found = values(text, reader)
        assert {found[m] for m in ("n_words", "n_tokens", "n_syllables", "n_sentences", "n_characters")} == {0.0}
        assert found["mtld"] == found["flesch_kincaid_grade"] == found["oov_ratio"] == found["lix"] == "no words"
        assert (found["alpha_ratio"], found["duplicate_line_chr_fraction"]) == ("no tokens", "no lines")
        assert found["passed_quality_check"] == 0.0


def test_a_text_of_one_word(reader):
    found = values("Word", reader)
    assert (found["n_words"], found["word_length_std"], found["word_entropy"], found["mtld_published"]) == (1, 0, 0, 1)
    assert (found["smog"], found["distinct_2"]) == ("fewer than 3 sentences", "fewer than 2 words")
    assert found["mtld"] == "fewer than 50 words"


def test_fifty_different_words_have_no_mtld(reader):
    words = [f"w{chr(97 + i)}{chr(97 + j)}" for i in range(10) for j in range(6)]
    assert values(" ".join(words), reader)["mtld"] == "no word comes twice: no factor closes"


def test_scripts_without_spaces_or_latin_letters_have_no_made_up_words_or_syllables(reader):
    han, cyrillic = values(ODD["han"], reader), values(ODD["cyrillic"], reader)
    assert {han[m] for m in ("n_words", "lix", "mtld", "alpha_ratio", "passed_quality_check", "word_entropy")} == {
        "its script puts no spaces between words"
    }
    assert han["n_characters"] == len(ODD["han"])
    assert (cyrillic["n_words"], cyrillic["n_sentences"]) == (9, 3)
    assert isinstance(cyrillic["lix"], float)
    assert cyrillic["flesch_reading_ease"] == cyrillic["n_syllables"] == "syllables are counted in Latin script only"


def test_a_text_of_unknown_words_alone(reader):
    none, floor = UnigramTable({"the": -3.0}), UnigramTable({"the": -3.0}, unknown=-20.0)
    found = values(ODD["unknown"], reader, resources=Resources(unigrams=none))
    assert found["oov_ratio"] == 1.0
    assert found["unigram_perplexity"] == "the table of word probabilities has none of its words"
    assert values(ODD["unknown"], reader, resources=Resources(unigrams=floor))["unigram_cross_entropy"] == 20.0
    known = values(ODD["unknown"], reader, resources=Resources(vocabulary={"zzq"}))
    assert known["oov_ratio"] == 0.5


def test_a_long_text_that_repeats_itself_is_read_in_linear_time(reader):
    start = time.process_time()
    found = values("Again and again. " * 5_000, reader)
    # a quadratic pass over 20 000 tokens takes minutes
    assert time.process_time() - start < 10
    assert found["n_words"] == 15_000
    assert found["duplicate_ngram_chr_fraction_10"] == 1.0
    assert found["top_ngram_chr_fraction_2"] <= 1.0
    assert found["passed_quality_check"] == 0.0
