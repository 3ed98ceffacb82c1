"""From an arm and an item to a plan: the one place where arms become calls."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import polars as pl

from schemas.digest import digest_text
from schemas.specs import Decoding
from schemas.sweeps import ArmScores
from steer_core.generation.backend import Backend
from steer_core.steering.intervention import Intervention
from steer_core.steering.plan import Message, Plan
from steer_core.steering.vector import SteeringVector
from steer_core.tables.errors import ConfigError, SteerworksError


def messages_of(messages: str) -> tuple[Message, ...]:
    """The turns of an item, from its JSON."""
    return tuple(Message(m["role"], m["content"]) for m in json.loads(messages))


def with_system(messages: Sequence[Message], system: str | None) -> tuple[Message, ...]:
    """The turns under a system prompt; an item's own system prompt follows it, a blank line below."""
    if system is None:
        return tuple(messages)
    if messages and messages[0].role == "system":
        return (replace(messages[0], content=f"{system}\n\n{messages[0].content}"), *messages[1:])
    return (Message("system", system), *messages)


def interventions_of(arm: Mapping[str, Any]) -> tuple[Intervention, ...]:
    """What an arm (a row of `sweep_arms`) does to activations; nothing where it is unsteered."""
    return tuple(Intervention.from_dict(i) for i in json.loads(arm["interventions"]))


def plan_of(arm: Mapping[str, Any], messages: Sequence[Message], model: str, decoding: Decoding) -> Plan:
    """The plan of an item in an arm.

    Args:
        arm: row of `sweep_arms`.
        messages: the item's turns.
        model: `ModelSpec.identity`.
        decoding: how answers are drawn.
    """
    return Plan(model, decoding, with_system(messages, arm["system"]), interventions=interventions_of(arm))


def unsteered(plan: Plan) -> Plan:
    """The same plan with nothing done to activations."""
    return replace(plan, interventions=())


def item_seed(seed: int, item_id: str, sample_index: int) -> int:
    """Seed of an item's sample: the same in every arm, so that arms differ by what is done and not by the draw."""
    return int(digest_text(f"{seed}:{item_id}:{sample_index}")[:15], 16)


def give_vectors(backend: Backend, arms: pl.DataFrame, vectors: Sequence[SteeringVector]) -> None:
    """Tell the backend the vectors that the arms use.

    Raises:
        ConfigError: an arm uses a vector that is not given.
        SteerworksError: the backend cannot apply interventions.
    """
    used = _used(arms)
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


def _used(arms: pl.DataFrame) -> set[str]:
    steps = [i for row in arms.iter_rows(named=True) for i in interventions_of(row)]
    return {i.vector for i in steps} | {i.gate.vector for i in steps if i.gate is not None}


def batches(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Rows in batches of like length, longest first, so that little is padded and a lack of memory shows at once."""
    if batch_size < 1:
        raise ConfigError(f"batch_size = {batch_size}: a batch holds at least one row")
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    return [order[k : k + batch_size] for k in range(0, len(order), batch_size)]


def score_rows(rows: Collection[tuple[str, str, int, str, str, float | None]]) -> pl.DataFrame:
    """Rows of `arm_scores` from tuples in the order of its columns."""
    return pl.DataFrame(list(rows), schema=ArmScores.empty().schema, orient="row")
