"""Items whose answer is written: prompts to be answered, and beginnings of texts to be continued."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import polars as pl

from schemas.digest import digest_text
from schemas.profile_sets import PromptsSet
from steer_core.evaluation.profiles.sets.items import Item, ItemSet, build
from steer_core.evaluation.profiles.sets.reading import SHIPPED, Record, numbers, read_place
from steer_core.evaluation.profiles.sets.tales import tales_prompts

#: Columns that are looked for, in this order: a table of ours, Dolly-200, StrategyQA, ToxiGen and others.
COLUMNS = ("prompt", "inputs", "question", "text")
#: How a beginning is put in a user's turn.
CONTINUE = "Here is the beginning of a text. Write how it goes on, and nothing else.\n\n{prompt}"
#: Hub id -> configuration and split of the published set.
HUBS: Mapping[str, tuple[str | None, str | None]] = {
    "wics/strategy-qa": (None, "test"),
    "allenai/real-toxicity-prompts": (None, "train"),
}
FILES = {"open-questions": "open_questions.json", "continuations": "continuations.json"}


def load(spec: PromptsSet) -> pl.DataFrame:
    """Items of the set; see `read`."""
    return read(spec).items


def read(spec: PromptsSet) -> ItemSet:
    """Items of the set.

    `group` is the column that the spec names, `cluster` the column of that name. `facts` holds the columns in `keep`,
    and the numbers that RealToxicityPrompts has of its prompts, nested or flat, as `prompt_toxicity` and so on.

    Raises:
        SteerworksError: a row has no prompt, or the place cannot be read; names row and place.
    """
    how = spec.continuation
    if spec.origin == "shipped" and spec.shipped == "tales-prompts":
        items, source = tales_prompts(spec.n, spec.seed, lambda prompt: of_side(prompt, spec.side)), SHIPPED
    else:
        config, split = HUBS.get(spec.dataset or "", (None, None))
        records, source = read_place(
            spec.path,
            spec.dataset,
            FILES.get(spec.shipped, ""),
            config=spec.config or config,
            split=spec.split or split,
            revision=spec.revision,
        )
        items = [item for record in records if of_side((item := _item(record, spec)).raw, spec.side)]
        if how is None and spec.origin == "shipped" and spec.shipped == "continuations":
            how = "user-turn"
    if how == "user-turn":
        items = [_to_continue(item) for item in items]
    return build("prompts", items, source, spec, chat=spec.chat if how is None else how == "user-turn")


def of_side(prompt: str, side: str | None) -> bool:
    """Whether a prompt is of one side of the split; of None all are. Case and white space change no side."""
    if side is None:
        return True
    even = int(digest_text(f"side:{' '.join(prompt.lower().split())}")[:8], 16) % 2 == 0
    return even == (side == "train")


def _to_continue(item: Item) -> Item:
    return replace(item, asked=CONTINUE.format(prompt=item.raw))


def _item(record: Record, spec: PromptsSet) -> Item:
    names = (spec.column,) if spec.column is not None else COLUMNS
    given = record.need(*names)
    known = {k: v for k, v in record.values.items() if isinstance(k, str) and k.startswith("prompt_")}
    if isinstance(given, dict):
        known |= {f"prompt_{k}": v for k, v in given.items() if k != "text"}
        given = given.get("text")
    if not isinstance(given, str) or not given.strip():
        raise record.error(f"the prompt is {str(given)[:60]!r}: it must be text (or {{text: ...}}), and not blank")
    notes: dict[str, Any] = dict(numbers(known))
    for column in spec.keep:
        if column not in record.values:
            raise record.error(f"no column {column!r} to keep; the row has {', '.join(map(str, record.values))}")
        value = record.values[column]
        notes[column] = None if isinstance(value, float) and not math.isfinite(value) else value
    return Item(
        row=record.row,
        raw=given,
        cluster=record.label("cluster"),
        group=record.label(spec.group) or "",
        notes=notes,
    )
