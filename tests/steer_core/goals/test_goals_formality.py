import pytest

from steer_core.goals.analysis import Analyzer
from steer_core.goals.scorers.formality import build, f_score, word_class
from steer_core.goals.scorers.formality_spacy import f_score_of_tokens
from steer_core.goals.tagger import ARTICLE, SUBORDINATOR


def test_f_score_is_the_published_formula() -> None:
    counts = {"noun": 4, "adjective": 2, "preposition": 1, "article": 1, "pronoun": 1, "verb": 2, "adverb": 1}
    # 12 of 16 words in classes: (8 - 4) / 16 = 25 %
    assert f_score(counts, 16) == pytest.approx((25 + 100) / 2)
    assert f_score({"noun": 5}, 5) == 100
    assert f_score({"interjection": 5}, 5) == 0


def test_word_classes_follow_the_tags() -> None:
    assert [word_class(t) for t in ("NNP-PERS", "JJR", "PRP$", "MD", "WRB", "UH", "CC", "CD")] == [
        "noun", "adjective", "pronoun", "verb", "adverb", "interjection", "other", "other",
    ]  # fmt: skip
    assert word_class("DT", ARTICLE) == "article"
    assert word_class("DT") == "other"
    assert word_class("IN", SUBORDINATOR) == "other"


def test_formality_of_a_sentence_by_hand() -> None:
    analysis = Analyzer().analyse("The old man walked to the house because he wanted to sleep.")
    # DT JJ NN VBD TO DT NN IN PRP VBD TO VB: articles 2, adjective 1, nouns 2, preposition 1 (the first "to"),
    # verbs 3, pronoun 1, of 12 words
    assert analysis.tags[:12] == ["DT", "JJ", "NN", "VBD", "TO", "DT", "NN", "IN", "PRP", "VBD", "TO", "VB"]
    assert build().measure([analysis]) == [pytest.approx((100 * (6 - 4) / 12 + 100) / 2)]


def test_a_formal_text_scores_above_an_informal_one() -> None:
    formal = "The construction of the new municipal library requires the approval of the regional planning authority."
    informal = "Well, you know, I really think we should just go and do it now because they never will."
    high, low = build().measure(Analyzer().analyse_all([formal, informal]))
    assert high is not None
    assert low is not None
    assert high > 80 > 30 > low


def test_a_text_without_words_has_no_formality() -> None:
    assert build().measure(Analyzer().analyse_all(["", "12 + 30 = 42 !"])) == [None, None]
    assert build(min_words=3).measure(Analyzer().analyse_all(["Two words."])) == [None]


class FakeToken:
    def __init__(self, text: str, pos: str) -> None:
        self.text, self.lemma_, self.pos_, self.is_alpha = text, text.lower(), pos, text.isalpha()


def test_compat_formality_counts_proper_nouns_and_auxiliaries_as_words_only() -> None:
    tokens = [FakeToken("The", "DET"), FakeToken("cat", "NOUN"), FakeToken("is", "AUX"), FakeToken("Tom", "PROPN")]
    # (article + noun) / 4 words = 50 %; that "." is no word and "This" no article
    assert f_score_of_tokens([*tokens, FakeToken(".", "PUNCT")]) == pytest.approx(75)
    assert f_score_of_tokens([FakeToken("This", "DET"), FakeToken("runs", "VERB")]) == pytest.approx(25)
    assert f_score_of_tokens([]) is None
