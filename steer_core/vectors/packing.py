"""Which token sequences share a row of a forward pass, and which rows share a batch.

1. Equal sequences are computed once, however many examples or readings want them.
2. Sequences that are linked by a pair form a unit. A unit with a long enough common prefix becomes one *packed* row:
   the prefix, then each sequence's own tail, which attends to the prefix and to itself. Others stay plain causal rows.
3. Rows are sorted by length and batched under a budget of tokens, padded on the right: no token looks at what follows
   it, so plain rows need no mask, and their positions count from 0 in every family.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from steer_core.vectors.encoding import Encoded, Tokens, common_prefix

Ints = NDArray[np.int64]

#: Most sequences of a unit; larger ones are cut into units of neighbours.
MOST_IN_UNIT = 8
#: Packing has to save this share of the estimated work: its mask costs more than causal rows do.
PAYS = 0.1


@dataclass(frozen=True)
class Span:
    """What one example reads: tokens `start` to `stop` (end excluded) of one sequence.

    Attributes:
        example: place of the example in the list that was encoded.
        start, stop: span in the sequence.
    """

    example: int
    start: int
    stop: int


@dataclass(frozen=True, eq=False)
class TokenSequence:
    """A distinct token sequence and all that is read from it."""

    tokens: Tokens
    spans: tuple[Span, ...]


@dataclass(frozen=True, eq=False)
class Row:
    """One row of a forward pass: a sequence, or several behind their common prefix.

    Attributes:
        ids: token ids, shape [tokens].
        prefix: tokens of the common prefix; all of them for a plain row.
        tails: tokens of each tail; none for a plain row.
        reads: for each example read from the row: its place, and the runs of the row (start, stop) that it reads.
    """

    ids: Tokens
    prefix: int
    tails: tuple[int, ...]
    reads: tuple[tuple[int, tuple[tuple[int, int], ...]], ...]

    @property
    def packed(self) -> bool:
        """Whether several sequences share the row."""
        return bool(self.tails)

    @property
    def positions(self) -> Ints:
        """Position of each token in its own sequence, shape [tokens]."""
        parts = [np.arange(self.prefix), *(self.prefix + np.arange(t) for t in self.tails)]
        return np.concatenate(parts)

    @property
    def parts(self) -> Ints:
        """0 for the prefix, k for the k-th tail, shape [tokens]."""
        return np.repeat(np.arange(1 + len(self.tails)), [self.prefix, *self.tails])


def units_of(encoded: Sequence[Encoded]) -> list[list[TokenSequence]]:
    """Distinct sequences, those linked by a pair together; in order of first appearance."""
    numbers: dict[bytes, int] = {}
    spans: list[list[Span]] = []
    tokens: list[Tokens] = []
    links: list[int] = []
    of_pair: dict[tuple[str, str], int] = {}

    def root(i: int) -> int:
        while links[i] != i:
            links[i] = links[links[i]]
            i = links[i]
        return i

    for place, one in enumerate(encoded):
        number = numbers.setdefault(blake2b(one.tokens.tobytes(), digest_size=16).digest(), len(tokens))
        if number == len(tokens):
            tokens.append(one.tokens)
            spans.append([])
            links.append(number)
        spans[number].append(Span(place, one.start, one.stop))
        partner = of_pair.setdefault((one.concept, one.pair_id), number)
        a, b = root(partner), root(number)
        links[max(a, b)] = min(a, b)
    members: dict[int, list[int]] = {}
    for i in range(len(tokens)):
        members.setdefault(root(i), []).append(i)
    units: list[list[TokenSequence]] = []
    for unit in members.values():
        if len(unit) > MOST_IN_UNIT:
            # neighbours in lexical order have the longest prefixes in common
            unit.sort(key=lambda i: tokens[i].tolist())
        distinct = [TokenSequence(tokens[i], tuple(spans[i])) for i in unit]
        units.extend(distinct[start : start + MOST_IN_UNIT] for start in range(0, len(distinct), MOST_IN_UNIT))
    return units


def plain_rows(unit: Sequence[TokenSequence]) -> list[Row]:
    """Each sequence in a row of its own."""
    return [Row(s.tokens, len(s.tokens), (), tuple((p.example, ((p.start, p.stop),)) for p in s.spans)) for s in unit]


def packed_row(unit: Sequence[TokenSequence], prefix: int) -> Row:
    """All sequences in one row, behind their common prefix."""
    ids, reads, at = [unit[0].tokens[:prefix]], [], prefix
    for s in unit:
        for span in s.spans:
            inside = (span.start, min(span.stop, prefix))
            after = (at + max(span.start, prefix) - prefix, at + span.stop - prefix)
            reads.append((span.example, tuple((a, b) for a, b in (inside, after) if a < b)))
        ids.append(s.tokens[prefix:])
        at += len(s.tokens) - prefix
    return Row(np.concatenate(ids), prefix, tuple(len(s.tokens) - prefix for s in unit), tuple(reads))


def shared_prefix(unit: Sequence[TokenSequence], width: int, *, always: bool = False) -> int:
    """Tokens that packing the unit shares; 0 where it stays in plain rows.

    Work is counted in multiply-adds over the width: 12 d a token for the matrices of a layer, 2 L for the attention of
    a token in a row of L tokens with a mask, and half of that where the row is causal.

    Args:
        unit: sequences.
        width: hidden size d.
        always: pack whatever is shared, whether or not it pays.
    """
    if len(unit) < 2:
        return 0
    prefix = common_prefix([s.tokens for s in unit])
    if not prefix or always:
        return prefix
    lengths = np.array([len(s.tokens) for s in unit], dtype=np.float64)
    packed = prefix + (lengths - prefix).sum()
    apart = (12.0 * width * lengths + lengths**2).sum()
    together = 12.0 * width * packed + 2.0 * packed**2
    return prefix if together <= (1.0 - PAYS) * apart else 0


def batches_of(blocks: Sequence[Sequence[Row]], tokens_per_batch: int) -> Iterator[list[Row]]:
    """Rows in batches of at most so many tokens, padding included (at least one block each).

    Args:
        blocks: rows that must not be parted.
        tokens_per_batch: the budget.
    """
    batch: list[Row] = []
    for block in sorted(blocks, key=lambda b: max(len(r.ids) for r in b)):
        longest = max(len(r.ids) for r in block)
        if batch and longest * (len(batch) + len(block)) > tokens_per_batch:
            yield batch
            batch = []
        batch.extend(block)
    if batch:
        yield batch
