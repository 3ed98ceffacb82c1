"""What the transformers engine can do with a model: how its rows share passes, and why not otherwise."""

from __future__ import annotations

from collections.abc import Set
from typing import Literal

from steer_core.generation.backend import Capabilities, Interventions
from steer_core.generation.branching import shares_prefixes
from steer_core.generation.decoding import available_rules
from steer_core.generation.sharing import Sharing, sharing_of
from steer_core.models.loading import LoadedModel
from steer_core.models.quantization import mixes_rows
from steer_core.tables.errors import SteerworksError

Batching = Literal["refill", "plain"]


def batching_of(loaded: LoadedModel, asked: Batching | None, accepted: Set[str]) -> tuple[Batching, str]:
    """How rows share passes, and why it is not `refill` where nobody asked for something else."""
    if asked == "plain":
        return "plain", ""
    reason = _why_no_shared_cache(loaded, accepted)
    if reason is None:
        return "refill", ""
    if asked == "refill":
        raise SteerworksError(f"rows of {loaded.spec.name!r} cannot take each other's places: {reason}; use `plain`")
    return "plain", reason


def _why_no_shared_cache(loaded: LoadedModel, accepted: Set[str]) -> str | None:
    """Why rows of all lengths cannot share a cache of keys and values, in words; None where they can."""
    from steer_core.generation.cache import why_not_refillable

    reason = why_not_refillable(loaded.model, accepted)
    if reason is None and (sharing := sharing_of(loaded)) is not Sharing.ANY:
        reason = f"models of type {loaded.model.config.model_type!r} {sharing.value}"
        if mixes_rows(loaded.model):
            reason = f"in LLM.int8 outliers of one row (`llm_int8_threshold` above 0) {Sharing.NONE.value}"
    return reason


def why_no_prefixes(loaded: LoadedModel, accepted: Set[str]) -> str:
    """Why rows that begin with the same tokens are each read in full, in words; empty where they are not."""
    if (reason := _why_no_shared_cache(loaded, accepted)) is not None:
        return reason
    if shares_prefixes(loaded, accepted):
        return ""
    kind = loaded.model.config.model_type
    return f"models of type {kind!r} say something else of a text that goes on from a shared beginning"


def abilities(max_context: int | None, batching: Batching = "plain", reason: str = "") -> Capabilities:
    """What the engine can carry out."""
    return Capabilities(
        "transformers",
        max_context,
        scores=True,
        interventions=Interventions.every(),
        diverges=True,
        adapters=True,
        extensions=available_rules(),
        passes=True,
        log_probs=True,
        greedy_flags=True,
        embeds=True,
        streams=True,
        batching=batching,
        batching_reason=reason,
    )
