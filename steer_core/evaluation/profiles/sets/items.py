"""What an item is, whichever set it is of, and the frame of all items of a set.

1. An item's id covers what is asked and what decides its score: set, prompt with its examples, options, gold, facts.
2. Items that ask the same are one: the first is kept, the others are counted in `ItemSet.dropped`.
3. An option stands as it is appended. In raw text one space parts it from a prompt that does not end in white space;
   in a chat it begins a turn, so that nothing stands before it.
4. Examples in front are of other clusters than the item: one template filled twice would give the answer away.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import polars as pl

from schemas.digest import canonical_json, digest_json
from steer_core.tables.errors import SteerworksError

#: Columns of an item frame, in order.
COLUMNS: dict[str, Any] = {
    "item_id": pl.String,  # content hash, unique
    "cluster": pl.String,  # what items share, and intervals cluster by; the item where nothing
    "group": pl.String,  # what is reported apart; empty where nothing
    "messages": pl.String,  # JSON list of {role, content}; null where `text` is given
    "text": pl.String,  # raw prompt; null where `messages` are given
    "options": pl.String,  # JSON list of continuations as they are appended; `[]` where the answer is written
    "gold": pl.Int64,  # index of the right option; null where there is none
    "facts": pl.String,  # JSON object: what the measure needs besides
    "source": pl.String,  # `shipped`, a path as written, or hub id@revision
    "row": pl.Int64,  # 0-based row of the source
}
#: What stands between a solved example and what follows, in raw text.
GAP = "\n\n"


@dataclass(frozen=True)
class Item:
    """One item before it is put in words for a model.

    Attributes:
        row: 0-based row of the source.
        raw: prompt as raw text, empty where nothing stands before what is scored.
        options: answers to score, without the space before them.
        gold: index of the right one.
        asked: prompt as a user turn; None: as `raw`.
        cluster: what items share; None: nothing.
        group: what is reported apart.
        facts: what decides the score besides.
        notes: what is kept beside `facts` and decides nothing.
    """

    row: int
    raw: str
    options: tuple[str, ...] = ()
    gold: int | None = None
    asked: str | None = None
    cluster: str | None = None
    group: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ItemSet:
    """Items of a set.

    Attributes:
        items: columns `COLUMNS`, one row an item, in the order of the source.
        dropped: rows that ask what an earlier row asks.
    """

    items: pl.DataFrame
    dropped: int


class Limits(Protocol):
    """Which of the items are kept."""

    @property
    def sample(self) -> int | None:
        """Draw this many."""
        ...

    @property
    def first(self) -> int | None:
        """Keep the first, after that."""
        ...

    @property
    def seed(self) -> int:
        """Of what is drawn."""
        ...


def build(
    kind: str,
    items: Iterable[Item],
    source: str,
    limits: Limits | None = None,
    *,
    chat: bool = False,
    shots: int = 0,
    seed: int = 0,
) -> ItemSet:
    """The frame of a set.

    Args:
        kind: name of the set, part of each id.
        items: in the order of the source.
        source: where they are from.
        limits: which are kept; None keeps all.
        chat: asked in a user turn.
        shots: solved items in front.
        seed: what they are drawn by.

    Raises:
        SteerworksError: there is no item, fewer than `sample`, or too few to draw examples from.
    """
    once: dict[str, Item] = {}
    n_items = 0
    for n_items, item in enumerate(items, 1):  # noqa: B007
        once.setdefault(_row(kind, item, source, chat, ())["item_id"], item)
    if not once:
        raise SteerworksError(f"set {kind!r}: {source} has no item")
    whole = list(once.values())
    rows = [
        _row(kind, item, source, chat, _examples(kind, item, whole, source, shots, seed) if shots else ())
        for item in _limited(kind, whole, source, limits)
    ]
    return ItemSet(pl.DataFrame(rows, schema=COLUMNS), n_items - len(once))


def appended(before: str, option: str) -> str:
    """An option as it follows raw text: parted by one space, unless the text is empty or ends in white space."""
    return option.strip() if not before or before[-1].isspace() else f" {option.strip()}"


def _limited(kind: str, items: list[Item], source: str, limits: Limits | None) -> list[Item]:
    if limits is None:
        return items
    if limits.sample is not None:
        if limits.sample > len(items):
            raise SteerworksError(
                f"set {kind!r}: a sample of {limits.sample} was asked of {len(items)} different items in {source}"
            )
        chosen = np.random.default_rng(limits.seed).choice(len(items), limits.sample, replace=False)
        items = [items[i] for i in np.sort(chosen)]
    return items[: limits.first]


def _examples(kind: str, item: Item, whole: Sequence[Item], source: str, shots: int, seed: int) -> tuple[Item, ...]:
    """Solved items of other clusters; the same whatever else was sampled."""
    found: dict[int, Item] = {}
    for i in _order(len(whole), shots, np.random.default_rng([seed, item.row])):
        other = whole[i]
        apart = other.cluster != item.cluster if item.cluster is not None else other is not item
        if apart and other.gold is not None:
            found[i] = other
        if len(found) == shots:
            return tuple(found.values())
    raise SteerworksError(
        f"set {kind!r}: {shots} solved examples were asked for, and row {item.row} (0-based) of {source} has "
        f"{len(found)} items with a known answer in other clusters than its own; lower `shots`"
    )


def _order(n: int, shots: int, rng: np.random.Generator) -> Iterator[int]:
    """Places in random order, the first of them perhaps twice: a whole permutation for each item takes n squared."""
    yield from rng.integers(n, size=8 * shots).tolist()
    yield from rng.permutation(n).tolist()


def _row(kind: str, item: Item, source: str, chat: bool, examples: Sequence[Item]) -> dict[str, Any]:
    if chat:
        turns = [turn for e in examples for turn in (_user(e), {"role": "assistant", "content": _solution(e).strip()})]
        prompt: dict[str, Any] = {"messages": [*turns, _user(item)], "text": None}
        options = [option.strip() for option in item.options]
    else:
        text = "".join(f"{e.raw}{appended(e.raw, _solution(e))}{GAP}" for e in examples) + item.raw
        prompt = {"messages": None, "text": text}
        options = [appended(text, option) for option in item.options]
    key = digest_json({"set": kind, **prompt, "options": options, "gold": item.gold, "facts": item.facts})
    turns_text = None if prompt["messages"] is None else json.dumps(prompt["messages"], ensure_ascii=False)
    return {
        "item_id": key,
        "cluster": key if item.cluster is None else item.cluster,
        "group": item.group,
        "messages": turns_text,
        "text": prompt["text"],
        "options": json.dumps(options, ensure_ascii=False),
        "gold": item.gold,
        "facts": canonical_json(item.notes | item.facts),
        "source": source,
        "row": item.row,
    }


def _user(item: Item) -> dict[str, str]:
    return {"role": "user", "content": item.raw if item.asked is None else item.asked}


def _solution(item: Item) -> str:
    if item.gold is None:
        raise ValueError("an example needs a known answer")
    return item.options[item.gold]
