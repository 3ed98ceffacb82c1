"""Conversations as tokens with labels of the loss, from character offsets; nothing is searched for.

The text is tokenised once, as a whole. A token carries loss where every character that it stands for does: one that
straddles a border (a line break that the tokenizer merged with the next) is left out and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from steer_core.adapters.steerlm.conversation import Codec, Conversation, Kind, Rendered
from steer_core.tables.errors import ConfigError

#: Label of a token without loss, as torch's cross entropy has it.
IGNORE = -100
#: Why a row is left out: nothing in it carries loss, or nothing that does is left once it is cut.
Why = Literal["nothing to learn", "cut before anything to learn"]


@dataclass(frozen=True)
class Encoded:
    """A row for a trainer that takes `input_ids` and `labels` as they are.

    Attributes:
        ids: tokens.
        labels: the same, `IGNORE` without loss; not shifted.
        truncated: whether the end was cut off.
        straddling: tokens that stand for characters with loss and without.
    """

    ids: tuple[int, ...]
    labels: tuple[int, ...]
    truncated: bool
    straddling: int


@dataclass(frozen=True)
class EncodedRows:
    """Rows that can be trained on, and what became of the others.

    Attributes:
        rows: in order.
        sources: place of each row's conversation in what was given.
        dropped: place -> why.
    """

    rows: tuple[Encoded, ...]
    sources: tuple[int, ...]
    dropped: dict[int, Why]

    @property
    def counts(self) -> dict[str, int]:
        """How many are kept, cut, and dropped for which reason."""
        return {
            "kept": len(self.rows),
            "truncated": sum(r.truncated for r in self.rows),
            "straddling": sum(r.straddling for r in self.rows),
            **Counter(self.dropped.values()),
        }


def encode(rendered: Rendered, tokenizer: Any, max_tokens: int, prefix: Sequence[int] = ()) -> Encoded:
    """Tokens of a text.

    Args:
        rendered: text, and which characters carry loss.
        tokenizer: a fast tokenizer of transformers.
        max_tokens: the end is cut off beyond these.
        prefix: tokens ahead of the text, such as a start token; without loss.

    Raises:
        ConfigError: the tokenizer knows no offsets, or there is no room for a token.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ConfigError("the tokenizer knows no character offsets: use a fast one (`use_fast=True`)")
    if max_tokens <= len(prefix):
        raise ConfigError(f"max_tokens = {max_tokens} leaves no room behind {len(prefix)} tokens of prefix")
    found = tokenizer(rendered.text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ids = np.array(found["input_ids"], dtype=np.int64)
    extents = _extents(found["offset_mapping"])
    # characters with loss before each place
    before = np.concatenate([[0], np.cumsum(rendered.loss)])
    with_loss = before[extents[:, 1]] - before[extents[:, 0]]
    length = extents[:, 1] - extents[:, 0]
    carries = (with_loss == length) & (length > 0)
    kept = max_tokens - len(prefix)
    labels = np.where(carries, ids, IGNORE)
    return Encoded(
        (*prefix, *(int(i) for i in ids[:kept])),
        (*(IGNORE for _ in prefix), *(int(i) for i in labels[:kept])),
        len(ids) > kept,
        int(((with_loss > 0) & ~carries)[:kept].sum()),
    )


def encode_rows(
    conversations: Iterable[Conversation],
    codec: Codec,
    kind: Kind,
    tokenizer: Any,
    max_tokens: int,
    prefix: Sequence[int] = (),
) -> EncodedRows:
    """Conversations as rows; those that nothing could be learnt from are dropped and counted.

    Raises:
        SteerworksError: a conversation cannot be written; says where.
        ConfigError: as `encode`.
    """
    rows, sources, dropped = [], [], {}
    for k, conversation in enumerate(conversations):
        rendered = codec.render(conversation, kind)
        row = encode(rendered, tokenizer, max_tokens, prefix)
        # the first token of a row is never predicted
        if any(label != IGNORE for label in row.labels[1:]):
            rows.append(row)
            sources.append(k)
        else:
            cut = row.truncated and bool(rendered.loss.any())
            why: Why = "cut before anything to learn" if cut else "nothing to learn"
            dropped[k] = why
    return EncodedRows(tuple(rows), tuple(sources), dropped)


def _extents(offsets: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
    """First character and the one behind the last of each token, shape [tokens, 2].

    Some tokenizers leave blanks out of their offsets: a token reaches back to the end of the one before it. Several
    tokens of one character all stand for it.
    """
    found = np.zeros((len(offsets), 2), dtype=np.int64)
    reached = 0
    for k, (start, end) in enumerate(offsets):
        found[k] = (min(start, reached), max(end, min(start, reached)))
        reached = max(reached, end)
    return found
