"""The condition of a gate, fitted on the prompts of a behavior: steer only where the prompt resembles it (CAST)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from schemas.vector_part import GateSpec
from steer_core.models.loading import LoadedModel
from steer_core.steering.compose import CONDITION
from steer_core.steering.sites import find_sites
from steer_core.steering.vector import SteeringVector
from steer_core.tables.errors import SteerworksError
from steer_core.vectors.activations import collect
from steer_core.vectors.condition import fit_condition
from steer_core.vectors.encoding import encode_examples, template_digest
from steer_core.vectors.evidence import Point


def fit_gate(loaded: LoadedModel, examples: pl.DataFrame, spec: GateSpec, latest: int) -> SteeringVector:
    """The condition vector of a gate; `steer_core.steering.compose.gate_of` reads the gate from it.

    Args:
        loaded: the model.
        examples: rows of `contrast_examples` of the condition: prompts that meet it (label 1) and prompts that do not.
        spec: the gate; what it leaves open is searched.
        latest: last layer that the condition may be looked at: everything that is steered comes after it.

    Raises:
        SteerworksError: the two sides have the same prompts, or the layer comes too late.
    """
    chosen = examples.filter((pl.col("concept") == spec.condition) & (pl.col("split") != "test"))
    distinct = chosen.unique(["messages", "label"], maintain_order=True)
    sides = distinct.group_by("messages").agg(pl.col("label").n_unique())
    if not chosen.height or (sides["label"] > 1).any():
        raise SteerworksError(
            f"gate condition {spec.condition!r}: its positive and negative examples share prompts, or there are none; "
            "a condition needs prompts that meet it and others that do not (data of kind `prompts`, for example)"
        )
    if latest < 0 or (spec.layer is not None and spec.layer > latest):
        raise SteerworksError(
            f"gate condition {spec.condition!r} comes too late: with these layers, sites and sweep layers it may be "
            f"looked at after layer {latest} at most; steer later layers, or leave the early ones out of `sweep.layers`"
        )
    layers = [spec.layer] if spec.layer is not None else list(range(latest + 1))
    points = [Point(layer) for layer in layers]
    width = find_sites(loaded.model).width
    at = {p: np.zeros((distinct.height, width), dtype=np.float32) for p in points}
    for batch in collect(loaded, encode_examples(loaded, distinct, ["prompt"])["prompt"], points):
        for point, rows in batch.rows.items():
            at[point][batch.indices] = rows
    shows = distinct["label"].to_numpy() == 1
    found = fit_condition(
        {p.layer: x[shows] for p, x in at.items()},
        {p.layer: x[~shows] for p, x in at.items()},
        concept=spec.condition,
        model=loaded.fingerprint,
        layer=spec.layer,
        threshold=spec.threshold,
        above=spec.above,
        template=template_digest(loaded),
    )
    gate = {"gate_threshold": found.gate.threshold, "gate_above": float(found.gate.above)}
    return replace(found.vector, control=CONDITION, scalars={**found.vector.scalars, **gate})
