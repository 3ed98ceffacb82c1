"""Rows of tokens with targets, as an attribute model takes them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steer_core.adapters.steerlm.conversation import Forged, escape, reserved_of
from steer_core.tables.errors import SteerworksError

Floats = NDArray[np.float64]
#: Batches whose rows are sorted by length among each other, so that little is padding.
SORTED = 16


@dataclass(frozen=True)
class TokenRows:
    """Texts as tokens.

    Attributes:
        ids: tokens of each row; its last one is what is read.
        targets: levels, shape [rows, attributes]; NaN where not known.
    """

    ids: tuple[tuple[int, ...], ...]
    targets: Floats

    def __post_init__(self) -> None:
        if self.targets.ndim != 2 or len(self.ids) != len(self.targets):
            raise ValueError(f"{len(self.ids)} rows with targets of shape {self.targets.shape}")

    @property
    def digest(self) -> str:
        """What the rows are known by."""
        total = hashlib.blake2b(digest_size=16)
        for row in self.ids:
            total.update(np.asarray(row, dtype=np.int64).tobytes() + b"|")
        total.update(np.ascontiguousarray(self.targets, dtype=np.float64).tobytes())
        return total.hexdigest()


@dataclass(frozen=True)
class Usable:
    """Rows that can be trained on.

    Attributes:
        rows: in order.
        too_long: rows that were left out since they do not fit.
        unlabelled: rows that were left out since none of their targets is known.
    """

    rows: TokenRows
    too_long: int
    unlabelled: int


def usable(rows: TokenRows, max_tokens: int) -> Usable:
    """Rows that fit and have a target; an over-long one is not cut, since it is its end that is read.

    Raises:
        SteerworksError: none is left, or an attribute has no target in any of them.
    """
    long = np.array([len(r) > max_tokens or not r for r in rows.ids], dtype=np.bool_)
    bare = np.isnan(rows.targets).all(1) & ~long
    kept = np.flatnonzero(~long & ~bare)
    if not len(kept):
        raise SteerworksError(
            f"of {len(rows.ids)} rows {int(long.sum())} have no tokens or more than {max_tokens}, and "
            f"{int(bare.sum())} no label: nothing can be learnt; raise `max_tokens`, or label the rows"
        )
    found = TokenRows(tuple(rows.ids[k] for k in kept), rows.targets[kept])
    if (never := np.isnan(found.targets).all(0)).any():
        raise SteerworksError(f"attribute {int(np.flatnonzero(never)[0]) + 1} has no label in any row: leave it out")
    return Usable(found, int(long.sum()), int(bare.sum()))


def rows_of_texts(texts: Sequence[str], tokenizer: Any, forged: Forged = "refuse") -> list[tuple[int, ...]]:
    """Plain texts between the tokenizer's start and end tokens, where it has them.

    Args:
        texts: what is rated.
        tokenizer: of the model.
        forged: what a special token inside a text meets.

    Raises:
        SteerworksError: a text holds a special token, and that is refused.
    """
    reserved = tuple(sorted(reserved_of(tokenizer)))
    said = []
    for k, text in enumerate(texts):
        held = [r for r in reserved if r in text]
        if held and forged == "refuse":
            raise SteerworksError(f"text {k} holds {held[0]!r}, a special token: take it out, or escape it")
        said.append(escape(text, reserved) if held else text)
    start = () if tokenizer.bos_token_id is None else (tokenizer.bos_token_id,)
    end = () if tokenizer.eos_token_id is None else (tokenizer.eos_token_id,)
    found = tokenizer(said, add_special_tokens=False, verbose=False)["input_ids"] if said else []
    return [(*start, *ids, *end) for ids in found]


def batches(lengths: Sequence[int], size: int, seed: int, first: int = 0) -> Iterator[NDArray[np.int64]]:
    """Places of rows, batch after batch without end; each epoch takes every row once, but for a rest below `size`.

    Rows of about one length share a batch. An epoch's order follows from seed and number alone, so that a run that is
    taken up again goes on with the batch it would have had.

    Args:
        lengths: of the rows.
        size: rows of a batch; all of them where there are fewer.
        seed: of the order.
        first: batches that are skipped.
    """
    size = min(size, len(lengths))
    length = np.asarray(lengths)
    per_epoch = len(length) // size
    epoch, skipped = divmod(first, per_epoch)
    while True:
        rng = np.random.default_rng([seed, epoch])
        order = rng.permutation(len(length))[: per_epoch * size]
        cut: list[NDArray[np.int64]] = []
        for start in range(0, len(order), size * SORTED):
            part = order[start : start + size * SORTED]
            cut += np.split(part[np.argsort(length[part], kind="stable")], len(part) // size)
        for k in rng.permutation(len(cut))[skipped:]:
            yield cut[k]
        epoch, skipped = epoch + 1, 0
