"""Prompts of a set that an adapter is trained on in place of the pool's requests: none that a profile asks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import polars as pl

from schemas.adapters import OF_SET
from schemas.profile_sets import PromptsSet
from schemas.profile_spec import ProfileSpec
from schemas.specs import Decoding
from steer_core.corpus.build import folded
from steer_core.evaluation.profiles.asking import items_table
from steer_core.evaluation.profiles.sets import load_set
from steer_core.evaluation.profiles.sets.prompts import CONTINUE
from steer_core.steering.plan import Plan, messages_of
from steer_core.tables.errors import ConfigError

#: What stands before the beginning of a text.
_BEFORE = CONTINUE.split("{prompt}")[0]
#: Characters of a prompt that a message shows.
_SHOWN = 80


def plans_of_set(
    wanted: PromptsSet, profiles: Iterable[ProfileSpec], model: str, decoding: Decoding
) -> dict[str, Plan]:
    """The prompts of a set as they stand, by id (`item:` and the item's own).

    Args:
        wanted: the set.
        profiles: of the bench.
        model: `ModelSpec.identity`.
        decoding: of the plans.

    Raises:
        ConfigError: a profile asks one of them, case and white space aside.
        SteerworksError: the set, or what a profile asks, cannot be read.
    """
    items = load_set(wanted)
    _refuse_asked(items, profiles)
    return {
        OF_SET + row["item_id"]: Plan(
            model, decoding, None if row["messages"] is None else messages_of(row["messages"]), row["text"]
        )
        for row in items.iter_rows(named=True)
    }


def _refuse_asked(items: pl.DataFrame, profiles: Iterable[ProfileSpec]) -> None:
    own = _texts(items)
    for spec in profiles:
        asked = _texts(items_table([spec]))
        if both := [text for text in own if text in asked]:
            raise ConfigError(
                f"{len(both)} of the {len(own)} `prompts` are asked by the profile {spec.name!r} as well (first: "
                f"{both[0][:_SHOWN]!r}): what is trained on them would be tested on them. Give the recipe's set `side: "
                "train` and the profile's `side: test`, or prompts from elsewhere"
            )


def _texts(items: pl.DataFrame) -> Mapping[str, None]:
    """What is said in each item, folded, in order; of a text that is to be continued the text alone."""
    texts = pl.Series("text", list(_said(items)), dtype=pl.String)
    return dict.fromkeys(pl.DataFrame([texts]).select(folded(pl.col("text")))["text"])


def _said(items: pl.DataFrame) -> Iterator[str]:
    for messages, text in items.select("messages", "text").iter_rows():
        said = text or "" if messages is None else messages_of(messages)[-1].content
        yield said.removeprefix(_BEFORE)
