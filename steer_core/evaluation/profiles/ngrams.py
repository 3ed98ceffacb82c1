"""Texts as sparse rows of hashed n-grams: of characters, and of words. No vocabulary, and numpy alone.

1. Read: lower case, compatibility forms (NFKC), letters repeated three times or more are two; what is no letter or
   digit parts words, apart from ' and from * @ $, which stand for letters in masked words. One blank joins words.
2. n-grams: of characters, blanks and both ends included, of `CHARACTERS` lengths; of one and two whole words.
3. An n-gram is hashed to 64 bits (a polynomial modulo 2^64, then mixed) and its low bits are its bucket. Two n-grams in
   one bucket are one.
4. A bucket that occurs c times counts 1 + ln c, and a row is divided by its Euclidean length: a text weighs the same
   however long it is.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

#: Of what is above; changes with it, so that weights are never read with another.
READING = 1
#: Lengths of n-grams of characters.
CHARACTERS = (3, 4, 5)

_REPEATED = re.compile(r"(.)\1{2,}")
_OTHER = re.compile(r"[^\w'*@$]|_")
_BASE = np.uint64(0x9E3779B97F4A7C15)
_INVERSE = np.uint64(pow(int(_BASE), -1, 2**64))
_BLANK, _END = ord(" "), ord("\n")

Rows: TypeAlias = NDArray[np.int64]
Hashes: TypeAlias = NDArray[np.uint64]


def read(text: str) -> str:
    """What of a text is hashed: its words in lower case, with one blank between and at both ends."""
    plain = unicodedata.normalize("NFKC", text).lower().replace("’", "'")
    words = _OTHER.sub(" ", _REPEATED.sub(r"\1\1", plain)).split()
    return f" {' '.join(words)} "


def ngram_rows(texts: Sequence[str], buckets: int) -> tuple[Rows, Rows, NDArray[np.float64]]:
    """Rows of n-grams in coordinates.

    Args:
        texts: in any number; one without a word has no entry.
        buckets: a power of two.

    Returns:
        For each entry its row, its bucket and its value, in order of row and bucket.

    Raises:
        ValueError: `buckets` is no power of two.
    """
    if buckets < 2 or buckets & (buckets - 1):
        raise ValueError(f"buckets = {buckets}: it must be a power of two")
    joined = "".join(f"{read(t)}\n" for t in texts)
    codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    text_of = np.cumsum(codes == _END) - (codes == _END)
    found = [*_characters(codes, text_of), *_words(codes, text_of)]
    rows = np.concatenate([r for r, _ in found])
    columns = (_mixed(np.concatenate([h for _, h in found])) & np.uint64(buckets - 1)).astype(np.int64)
    entries, counts = np.unique(rows * buckets + columns, return_counts=True)
    rows, columns, values = entries // buckets, entries % buckets, 1.0 + np.log(counts)
    lengths = np.sqrt(np.bincount(rows, values * values, minlength=len(texts)))
    return rows, columns, values / lengths[rows]


def _characters(codes: Hashes, text_of: Rows) -> list[tuple[Rows, Hashes]]:
    found = []
    for n in CHARACTERS:
        if len(codes) < n:
            continue
        windows = np.lib.stride_tricks.sliding_window_view(codes, n)  # [positions, n]
        hashes = np.full(len(windows), n, dtype=np.uint64)
        for at in range(n):
            hashes = hashes * _BASE + windows[:, at]
        kept = ~(windows == _END).any(axis=1)
        found.append((text_of[: len(windows)][kept], hashes[kept]))
    return found


def _words(codes: Hashes, text_of: Rows) -> list[tuple[Rows, Hashes]]:
    inside = (codes != _BLANK) & (codes != _END)
    edges = np.flatnonzero(inside[1:] != inside[:-1]) + 1
    starts, ends = edges[::2], edges[1::2]
    # a text begins with a blank, so edges come in pairs; a word's hash is a difference of running sums, moved to start
    running = np.concatenate([[np.uint64(0)], np.cumsum(codes * _powers(_BASE, len(codes) + 1)[1:])])
    hashes = (running[ends] - running[starts]) * _powers(_INVERSE, len(codes) + 1)[starts]
    owners = text_of[starts]
    together = owners[1:] == owners[:-1]
    pairs = _mixed(hashes[:-1]) * _BASE + hashes[1:]
    return [(owners, hashes * _BASE + np.uint64(1)), (owners[1:][together], pairs[together])]


def _powers(base: np.uint64, n: int) -> Hashes:
    return np.concatenate([[np.uint64(1)], np.cumprod(np.full(n - 1, base, dtype=np.uint64))])


def _mixed(hashes: Hashes) -> Hashes:
    """The finaliser of SplitMix64 (Steele et al. 2014): low bits depend on all."""
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return hashes ^ (hashes >> np.uint64(31))
