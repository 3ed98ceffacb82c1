import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lexicalrichness import LexicalRichness
from taaled import ld

from steer_core.goals.analysis import Analyzer
from steer_core.goals.scorers.textual_diversity import build, factors, mtld
from steer_core.goals.scorers.textual_diversity_taaled import lemmas, mtld_of_factors

VOCABULARY = ["the", "of", "and", "to", "a", "in", "is", "it", "cat", "dog", "sees", "big", "red", "one", "two"]
TOKENS = st.lists(st.sampled_from(VOCABULARY), min_size=1, max_size=150)


def test_factors_close_at_the_threshold() -> None:
    # a b a: 2/3 <= 0.72 closes one factor; c d e e: 3/4 stays open and has gone (1 - 0.75) / 0.28 of one
    assert factors(["a", "b", "a", "c", "d", "e", "e"]) == pytest.approx(1 + 0.25 / 0.28)


def test_mtld_is_the_mean_of_both_directions() -> None:
    # forward as above; backward e e closes at 1/2, then d c a b a: 4/5
    forward, backward = 7 / (1 + 0.25 / 0.28), 7 / (1 + 0.2 / 0.28)
    assert mtld(["a", "b", "a", "c", "d", "e", "e"]) == pytest.approx((forward + backward) / 2)


@settings(max_examples=200, deadline=None)
@given(TOKENS)
def test_mtld_equals_lexicalrichness_from_the_same_tokens(tokens: list[str]) -> None:
    value = mtld(tokens)
    if len(set(tokens)) == len(tokens):
        assert value is None
    else:
        assert value == LexicalRichness(" ".join(tokens), preprocessor=None, tokenizer=str.split).mtld(threshold=0.72)


@settings(max_examples=200, deadline=None)
@given(TOKENS)
def test_compat_mtld_equals_taaled_from_the_same_tokens(tokens: list[str]) -> None:
    expected = ld.lexdiv().MTLD(tokens)
    assert (mtld_of_factors(tokens) or 0) == pytest.approx(expected, rel=1e-12)


def test_a_text_below_the_fewest_words_has_no_diversity() -> None:
    short, enough = "word and word " * 16, "word and word " * 17
    assert build().measure(Analyzer().analyse_all([short, enough, ""]))[0::2] == [None, None]
    assert build().measure(Analyzer().analyse_all([enough]))[0] is not None
    assert build(min_words=3).measure(Analyzer().analyse_all([short]))[0] is not None


def test_words_are_lower_case_without_numbers_and_marks() -> None:
    assert Analyzer().analyse("The 3 DON’T-s: don't, Don't -- 10:30 A1!").words == [
        "the",
        "don't-s",
        "don't",
        "don't",
        "a1",
    ]


class FakeToken:
    def __init__(self, text: str, lemma: str, pos: str) -> None:
        self.text, self.lemma_, self.pos_, self.is_alpha = text, lemma, pos, text.isalpha()


def test_compat_lemmas_keep_attested_words_with_their_part_of_speech() -> None:
    tokens = [FakeToken("Cats", "cat", "NOUN"), FakeToken("9", "9", "NUM"), FakeToken("zzq", "zzq", "NOUN")]
    assert lemmas([*tokens, FakeToken(".", ".", "PUNCT")], {"cats", "."}) == ["cat_NOUN"]


def test_a_ratio_exactly_at_the_threshold_closes_the_factor() -> None:
    words = [f"w{i}" for i in range(18)]
    assert len(words) / 25 == 0.72
    assert factors(words + words[:7]) == 1
    assert factors(words + words[:6]) < 1
