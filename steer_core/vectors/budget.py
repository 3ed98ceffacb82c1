"""KL curves for vectors whose strengths are budgets: measured on what the unsteered model answers."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from schemas.specs import Decoding
from steer_core.generation.backend import Backend, Call, answer_all
from steer_core.steering.plan import Plan, messages_of
from steer_core.steering.vector import SteeringVector
from steer_core.tables.errors import SteerworksError
from steer_core.vectors.kl_curves import calibrate_kl

#: Operators whose KL grows from 0 with the coefficient.
ADDITIVE = ("add", "add_norm_preserving", "ablate")
#: Prompts that a curve is measured on, and tokens of their answers.
PROMPTS, TOKENS = 16, 32


def calibrate_vectors(
    backend: Backend,
    vectors: Sequence[SteeringVector],
    examples: pl.DataFrame,
    budgets: Sequence[float],
    *,
    positions: str = "all",
) -> list[SteeringVector]:
    """The vectors with a KL curve that reaches each budget, measured on prompts of their own concept.

    Each vector is calibrated alone: the budgets of several layers together do not add up.

    Args:
        backend: the model.
        vectors: what is calibrated; controls and conditions are passed through.
        examples: rows of `contrast_examples`, whose prompts are answered unsteered.
        budgets: nats a token, signed.
        positions: selector over absolute positions.

    Raises:
        SteerworksError: a concept has no prompts, or a budget is out of reach.
    """
    answered: dict[str, tuple[list[Plan], list[str]]] = {}
    found = []
    for vector in vectors:
        if vector.control:
            found.append(vector)
            continue
        if vector.operator not in ADDITIVE:
            raise SteerworksError(
                f"unit 'kl' does not fit operator {vector.operator!r} ({vector.concept!r}): its KL is not 0 at "
                f"coefficient 0, or cannot be raised at will; it goes with {', '.join(ADDITIVE)}"
            )
        if vector.concept not in answered:
            answered[vector.concept] = _answers(backend, examples, vector.concept)
        plans, texts = answered[vector.concept]
        backend.add_vectors([vector])
        start = 0.1 * vector.scalars.get("residual_norm", 1.0) / (vector.norm or 1.0)
        found.append(calibrate_kl(backend, plans, vector, budgets, texts, start=start, positions=positions))
    return found


def _answers(backend: Backend, examples: pl.DataFrame, concept: str) -> tuple[list[Plan], list[str]]:
    prompts = examples.filter(pl.col("concept") == concept)["messages"].unique(maintain_order=True)[:PROMPTS]
    decoding = Decoding(max_new_tokens=TOKENS)
    turns = [messages_of(p) for p in prompts]
    plans = [Plan(backend.model_identity, decoding, messages=t) for t in turns]
    generated = answer_all(backend, [Call(p, 0, 0) for p in plans])
    kept = [(p, g.raw) for p, g in zip(plans, generated, strict=True) if g.raw.strip()]
    if not kept:
        raise SteerworksError(f"no prompt of {concept!r} was answered: its KL curve cannot be measured")
    return [p for p, _ in kept], [t for _, t in kept]
