"""Repetition: shares of a text's characters that stand in lines, paragraphs and token sequences which come again.

Rae et al. (2021), Scaling language models (Gopher), table A1. White space is left out of all shares.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate, chain

#: Lengths whose most frequent sequence is looked for, and how often it must come.
TOP, TOP_COUNT = (2, 3, 4), 3
#: Lengths whose repeated sequences are looked for.
DUPLICATE = (5, 6, 7, 8, 9, 10)


def repeated_share(parts: Sequence[str]) -> float:
    """Share of the characters of all parts, of which there is one, that stand in parts which were there before."""
    seen: set[str] = set()
    again = 0
    for part in parts:
        if part in seen:
            again += len(part)
        seen.add(part)
    return again / sum(map(len, parts))


def ngram_shares(tokens: Sequence[str]) -> tuple[float, ...]:
    """Shares of the characters inside repeated sequences: the most frequent one for `TOP`, all for `DUPLICATE`.

    A character counts once, however many sequences cover it, so shares are in [0, 1]. The tool of the published
    profiles multiplies length by count for the most frequent one instead, which passes 1 where it overlaps itself.
    Among equally frequent ones the one that covers most is taken. Linear in the number of tokens: a sequence can only
    come again if both sequences that are one shorter do.

    Args:
        tokens: in order, at least one.

    Returns:
        Shape [len(TOP) + len(DUPLICATE)].
    """
    behind = [0, *accumulate(map(len, tokens))]  # characters before each token
    names: dict[str, int] = {}
    ids = [names.setdefault(token, len(names)) for token in tokens]
    group: dict[int, int] = dict(enumerate(ids))  # start of a sequence that may come again -> which sequence it is
    top, duplicate = [], []
    for n in range(2, DUPLICATE[-1] + 1):
        starts: dict[tuple[int, int], list[int]] = {}
        for at, which in group.items():
            if at + 1 in group:
                starts.setdefault((which, ids[at + n - 1]), []).append(at)
        repeated = [places for places in starts.values() if len(places) > 1]
        group = dict(sorted((at, i) for i, places in enumerate(repeated) for at in places))
        if n in TOP:
            top.append(_most_frequent(repeated, n, behind) / behind[-1])
        if n in DUPLICATE:
            duplicate.append(_covered(sorted(chain.from_iterable(repeated)), n, behind) / behind[-1])
    return (*top, *duplicate)


def _most_frequent(repeated: Sequence[Sequence[int]], n: int, behind: Sequence[int]) -> int:
    most = max(map(len, repeated), default=0)
    return max(_covered(places, n, behind) for places in repeated if len(places) == most) if most >= TOP_COUNT else 0


def _covered(places: Iterable[int], n: int, behind: Sequence[int]) -> int:
    """Characters of the tokens in sequences of `n` that start at these places, ascending."""
    characters = end = 0
    for at in places:
        characters += behind[at + n] - behind[max(at, end)]
        end = at + n
    return characters
