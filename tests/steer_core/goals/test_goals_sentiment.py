"""Sentences without a word that has a valence are not put to VADER: their tone is the one that it would give."""

from hypothesis import given, settings
from hypothesis import strategies as st

from steer_core.goals.scorers import sentiment

PLAIN = [
    "the",
    "not",
    "but",
    "very",
    "kind",
    "of",
    "VERY",
    "isn't",
    "never",
    "no",
    "at",
    "least",
    "shop",
    "tree",
    "without",
    "doubt",
    "hand",
    "to",
    "mouth",
    "so",
    "this",
    "yeah",
    "right",
    "cut",
    "mustard",
    "upper",
    "kiss",
    "death",
    "bus",
    "stop",
    "wheels",
    "-",
    "--",
    "$",
    "(",
    ")",
    "o",
    "O",
    "8",
    "?",
    "!",
    "???",
]
TONED = [
    "good",
    "GREAT",
    "bad.",
    "'awful'",
    ":)",
    "(:",
    ":-(",
    "$:",
    "lol",
    "happy!",
    "(sad)",
    "“fine”",
    "café",
    "😀",
    "❤",
]


@settings(max_examples=500, deadline=None)
@given(
    st.lists(st.sampled_from(PLAIN * 3 + TONED), min_size=1, max_size=9), st.sampled_from(["", ".", "!", "?!", "!!!!"])
)
def test_the_shortcut_changes_no_number(words, end):
    vader, text = sentiment._vader(), " ".join(words) + end
    assert sentiment.compound(text) == vader.polarity_scores(text)["compound"]


def test_it_is_taken_where_there_is_no_tone_and_only_there():
    vader = sentiment._vader()
    assert sentiment._without_tone("The shop opens at nine, but not very often!!!", vader)
    for text in ("A good shop.", "(good)", "GOOD", ":)", "An odd 😀 shop."):
        assert not sentiment._without_tone(text, vader)
