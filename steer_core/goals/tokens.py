"""Tokens of a piece of text: what stands between two white spaces, split into words and punctuation marks."""

from __future__ import annotations

import re

#: A word may hold hyphens, apostrophes, periods and slashes, and commas and colons before a digit. Each alternative
#: starts with another kind of character and no separator is a word character: matching is linear.
_TOKEN = re.compile(r"\w+(?:(?:[-'’./]|[:,](?=\d))\w+)*|\.{2,}|-{2,}|\S")

#: Endings that stand for a word of their own (the splits of the Penn Treebank).
_CLITICS = ("n't", "'s", "'m", "'d", "'ll", "'re", "'ve")

#: Two words written as one (Penn Treebank), and the length of the first.
_FUSED = {"cannot": 3, "gimme": 3, "gonna": 3, "gotta": 3, "lemme": 3, "wanna": 3}

_ABBREVIATED = (
    "mr mrs ms dr prof st jr sr vs etc e.g i.e cf al inc ltd co corp dept est approx fig vol ed eds pp rev gen col lt "
    "sgt capt gov sen rep hon jan feb mar apr jun jul aug sep sept oct nov dec a.m p.m u.s u.k u.n ph.d"
)
#: Abbreviations that keep their period and do not end a sentence.
ABBREVIATIONS = frozenset(_ABBREVIATED.split())

_CLOSERS = frozenset("\"'”’)]}»*_")
_ENDS = frozenset([".", "!", "?", "…"])


def split_piece(piece: str) -> tuple[str, ...]:
    """Words and punctuation marks of a piece, before contractions are split.

    Args:
        piece: text without white space.

    Returns:
        Tokens in order; `"U.S."` and `"Mr."` keep their period, `"..."` and `"--"` are one token each.
    """
    tokens = _TOKEN.findall(piece)
    for i in range(len(tokens) - 1):
        word = tokens[i]
        if tokens[i + 1] == "." and _keeps_period(word):
            return (*tokens[:i], word + ".", *tokens[i + 2 :])
    return tuple(tokens)


def _keeps_period(word: str) -> bool:
    if len(word) > 8:
        return False
    initials = len(word) % 2 == 1 and word[::2].isalpha() and set(word[1::2]) <= {"."}
    # a lone "I." is more often the pronoun at the end of a sentence than an initial
    return (initials and (len(word) > 1 or word.isupper()) and word != "I") or word.lower() in ABBREVIATIONS


def split_contraction(token: str) -> tuple[str, ...]:
    """The one or two words of a token: `"don't"` is `("do", "n't")`, `"cannot"` is `("can", "not")`."""
    cut = _FUSED.get(token.lower())
    if cut is None:
        plain = token.replace("’", "'") if "’" in token else token
        if "'" not in plain:
            return (token,)
        low = plain[-3:].lower()
        clitic = next((c for c in _CLITICS if low.endswith(c)), None)
        if clitic is None or len(clitic) == len(token):
            return (token,)
        # the plain apostrophe, for the tagger's lexicon spells clitics with it
        return (token[: -len(clitic)], plain[-len(clitic) :])
    return (token[:cut], token[cut:])


def ends_sentence(tokens: tuple[str, ...]) -> bool:
    """True where a piece closes a sentence: its last mark, quotes and brackets aside, is one of `. ! ? …`."""
    for token in reversed(tokens):
        if token not in _CLOSERS:
            return token in _ENDS or token.startswith("..")
    return False


def is_word(token: str) -> bool:
    """True where a token holds a letter."""
    return token.isalpha() or (len(token) > 1 and any(map(str.isalpha, token)))
