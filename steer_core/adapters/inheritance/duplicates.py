"""Near-duplicates among texts that are chosen to train on."""

from __future__ import annotations

import re
from collections import Counter

#: Words of a gram.
GRAM = 3
_WORD = re.compile(r"\w+")


class Chosen:
    """Texts so far, and whether a further one is nearly one of them.

    Equal words (case, punctuation and white space aside) are a duplicate at any threshold. Beyond that two texts are
    near-duplicates where the Jaccard overlap of their sets of word trigrams, shared / all, reaches the threshold.

    Args:
        threshold: overlap in (0, 1] from which a text counts as a near-duplicate.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._exact: set[tuple[str, ...]] = set()
        self._sizes: list[int] = []
        #: gram -> texts that have it: what shares no gram is never looked at
        self._having: dict[tuple[str, ...], list[int]] = {}

    def has(self, text: str) -> bool:
        """Whether the text is nearly one of those that were added."""
        words, grams = _read(text)
        if words in self._exact:
            return True
        shared = Counter(k for gram in grams for k in self._having.get(gram, ()))
        return any(n / (len(grams) + self._sizes[k] - n) >= self._threshold for k, n in shared.items())

    def add(self, text: str) -> None:
        """Take a text in."""
        words, grams = _read(text)
        self._exact.add(words)
        for gram in grams:
            self._having.setdefault(gram, []).append(len(self._sizes))
        self._sizes.append(len(grams))


def _read(text: str) -> tuple[tuple[str, ...], set[tuple[str, ...]]]:
    words = tuple(_WORD.findall(text.casefold())) or (text.strip(),)
    return words, {words[i : i + GRAM] for i in range(len(words) - GRAM + 1)}
