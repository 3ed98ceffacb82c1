"""A sweep's tables as items in arms, and what is read from how likely the two answers of an item are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from steer_core.evaluation.arms import Arm, Asked, Item, pair
from steer_core.generation.backend import Backend
from steer_core.steering.intervention import Intervention
from steer_core.steering.plan import messages_of
from steer_core.steering.vector import SteeringVector
from steer_core.tables.errors import ConfigError, SteerworksError

#: Bumped when the same arms and answers give other tables.
VERSION = "2"


def asked_of(arms: pl.DataFrame, items: pl.DataFrame) -> list[Asked]:
    """Every arm with every item of its behavior.

    Args:
        arms: rows of `sweep_arms`, of one or several behaviors.
        items: rows of `behavior_items`.

    Raises:
        ConfigError: an item to choose from lacks one of its answers, or they are equal.
    """
    found = [
        Arm(
            a["arm_id"],
            a["behavior"],
            a["system"],
            interventions_of(a["interventions"]),
            turns=messages_of(a["turns"]) if a.get("turns") else (),
        )
        for a in arms.iter_rows(named=True)
    ]
    return pair(found, [item_of(i) for i in items.iter_rows(named=True)])


def interventions_of(steps: str) -> tuple[Intervention, ...]:
    """What an arm does to activations, from its JSON; nothing where it is unsteered."""
    return tuple(Intervention.from_dict(i) for i in json.loads(steps))


def item_of(row: Mapping[str, Any]) -> Item:
    """An item, from its row of `behavior_items`.

    What is scored of an item of letters is the exact string that an answer begins with, tokenised on its own as
    generation would write it: `(A` where its letters are `(A)` and `(B)` (the bracket behind a letter is no part of the
    choice), `A` where the prompt itself ends in `(`. A tokenizer may hold `(A` as one token or as two: the sum over
    them is meant.

    Raises:
        ConfigError: it lacks one of its answers, or they are equal.
    """
    messages = messages_of(row["messages"])
    given = () if row["form"] == "open" else _scored_answers(row)
    return Item(row["item_id"], row["behavior"], row["group"], messages, given, row["form"])


def _scored_answers(item: Mapping[str, Any]) -> tuple[str, str]:
    """The two strings that are scored: the answers of a pair; letters up to and including the letter."""
    positive, negative = item["positive"], item["negative"]
    if not positive or not negative or positive == negative:
        raise ConfigError(
            f"item {item['item_id']} of behavior {item['behavior']!r} ({item['source']}, row {item['row']}) needs two "
            f"different answers to choose between; it has {positive!r} and {negative!r}"
        )
    if item["form"] != "ab":
        return positive, negative
    common = 0
    while common < min(len(positive), len(negative)) - 1 and positive[-1 - common] == negative[-1 - common]:
        common += 1
    return positive[: len(positive) - common], negative[: len(negative) - common]


def choice_measures(item: Item, scores: Sequence[Sequence[float]]) -> list[tuple[str, float | None]]:
    """What is said of an item's two answers, with a, b the sums of the log-probabilities of the positive and negative.

    * `propensity`: a - b, in nats (Tan et al. 2024); for an item of letters this is the logit difference;
    * `accuracy`: 1 where a > b, 0 where not: with the right answer as the positive one, that of a neutral set;
    * letters only: `p_positive` = e^a / (e^a + e^b) (Rimsky et al. 2024) and `pair_mass` = e^a + e^b, the probability
      that the answer begins with one of the two: `p_positive` means little where it is near 0;
    * pairs only: `propensity_per_token`, a / tokens - b / tokens, so that the longer answer is not the less likely.
    """
    positive, negative = scores
    a, b = float(np.sum(positive)), float(np.sum(negative))
    found: list[tuple[str, float | None]] = [("propensity", a - b), ("accuracy", float(a > b))]
    if item.form == "ab":
        # e^a / (e^a + e^b) without overflow
        return [
            *found,
            ("p_positive", float(np.exp(a - np.logaddexp(a, b)))),
            ("pair_mass", float(np.exp(a) + np.exp(b))),
        ]
    return [*found, ("propensity_per_token", a / len(positive) - b / len(negative))]


def give_vectors(backend: Backend, asked: Sequence[Asked], vectors: Sequence[SteeringVector]) -> None:
    """Tell the backend the vectors that the arms use.

    Raises:
        ConfigError: an arm uses a vector that is not given.
        SteerworksError: the backend cannot apply interventions.
    """
    steps = {i for one in asked for i in one.arm.interventions}
    used = {i.vector for i in steps} | {i.gate.vector for i in steps if i.gate is not None}
    known = {v.id: v for v in vectors if v.id in used}
    if lacking := sorted(used - set(known)):
        raise ConfigError(
            f"{len(lacking)} vectors of the sweep's arms are not given (first: {lacking[0]}): pass the vectors, "
            "controls included, that the arms were planned with"
        )
    if not known:
        return
    if not backend.capabilities.interventions:
        raise SteerworksError(
            f"{backend.capabilities.name} backend cannot apply interventions; use transformers, or sweep prompts only"
        )
    backend.add_vectors(list(known.values()))
