import random

import pytest
import textstat
from hypothesis import given, settings
from hypothesis import strategies as st

from steer_core.goals.analysis import Analyzer
from steer_core.goals.scorers import reading_difficulty, reading_difficulty_textstat

ODD = [
    "It's 5 o'clock; don't panic!!! Really?! Yes... (e.g. now) -- or U.S. time.",
    "One. Two three. Four five six? Seven eight nine ten!",
    "no punctuation at all just words that run on and on until the end",
    "ΣΑΣ ΟΔΥΣΣΕΥΣ. İstanbul'da güzel bir gün var. Die Straße ist groß genug.",
    "a - b : c\x1cd\u2028e\u00a0f. __init__ is 100% safe_to use, isn’t it?",
    "<p>Some <b>bold</b> text</p> & more &amp; so on. http://example.com/a?b=c.",
    "\n\n\tTabs\tand\nlines.\n\nNew paragraph without end",
    "zorgulant frumbles quixotically; anaesthetised chrysanthemums!",
    "שלום עולם. זה משפט אחד. 漢字かな交じり文。 नमस्ते दुनिया",
]


def textstat_counts(text: str) -> tuple[int, int, int]:
    return textstat.lexicon_count(text), textstat.syllable_count(text), textstat.sentence_count(text)


def our_counts(text: str) -> tuple[int, int, int]:
    analysis = Analyzer().analyse(text)
    return analysis.n_words, analysis.n_syllables, analysis.n_sentences


@pytest.mark.parametrize("text", ODD)
def test_counts_equal_textstats(text: str) -> None:
    assert our_counts(text) == textstat_counts(text)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.sampled_from("abcdeXYZ .!?,'’-_\n\t019éßİΣς\u00a0\u2028\x1c\u200b漢ע़&<>"), max_size=120))
def test_counts_equal_textstats_on_any_text(text: str) -> None:
    assert our_counts(text) == textstat_counts(text)


def test_the_compat_grade_equals_textstats_to_the_digit() -> None:
    rng, analyzer = random.Random(1), Analyzer()
    words = " ".join(ODD[:3] + ODD[7:8]).split()
    texts = ODD[:-1] + [" ".join(rng.choices(words, k=rng.randint(3, 80))) for _ in range(300)]
    got = reading_difficulty_textstat.build().measure(analyzer.analyse_all(texts))
    assert got == [textstat.flesch_kincaid_grade(t) for t in texts]


def test_the_grade_is_the_published_formula() -> None:
    # 12 words, 2 sentences, 12 + 1 syllables (happy): 0.39 * 6 + 11.8 * 13 / 12 - 15.59
    text = "The cat sat on the mat. It was glad and so happy."
    analysis = Analyzer().analyse(text)
    assert (analysis.n_words, analysis.n_sentences, analysis.n_syllables) == (12, 2, 13)
    (grade,) = reading_difficulty.build().measure([analysis])
    assert grade == pytest.approx(0.39 * 6 + 11.8 * 13 / 12 - 15.59, abs=1e-12)


@pytest.mark.parametrize("text", ["", "  \n ", "!!! ...", "—"])
def test_the_grade_of_a_text_without_words_is_undefined(text: str) -> None:
    analyses = Analyzer().analyse_all([text])
    assert reading_difficulty.build().measure(analyses) == [None]
    assert reading_difficulty_textstat.build().measure(analyses) == [None]
