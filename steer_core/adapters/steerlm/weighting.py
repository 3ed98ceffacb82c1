"""Weights of the answers of an iteration of SteerLM 2.0, group by group, kept in the run once they are known.

P(a | x, y) comes from what was measured of the answer (`beta`), Q'(y | a, x) from the state that wrote it, and P(y | x)
from the same state asked for nothing: what attribute dropout taught it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.steerlm_recipe import SteerlmRecipe
from steer_core.adapters.steerlm.annotating import Annotated
from steer_core.adapters.steerlm.asking import LabelPrompt, asked_row
from steer_core.adapters.steerlm.beta import log_probability
from steer_core.adapters.steerlm.weights import effective_sample_size, sample_weights
from steer_core.tables.errors import SteerworksError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Weights:
    """Of n answers, groups of `answers` that stand together.

    Attributes:
        weight: w', 1 in sum over a group; 0 for an answer that is not there; NaN in a group that is left out.
        log_attributes: log P(a | x, y) in nats; NaN for an answer that is not there.
        effective: 1 / sum w'^2 of each group that is trained on.
        left_out: groups with fewer than two answers that could be weighted.
    """

    weight: Floats
    log_attributes: Floats
    effective: Floats
    left_out: int


def log_attributes(
    annotated: Sequence[Annotated], asked: Sequence[Mapping[str, int]], prompt: LabelPrompt, precision: float
) -> Floats:
    """Log P(labels asked for | answer) in nats, shape [n]; NaN where an answer or one of its measures is missing."""
    found = np.full(len(annotated), np.nan)
    for i, (one, labels) in enumerate(zip(annotated, asked, strict=True)):
        row = asked_row(labels, prompt)
        wanted = ~np.isnan(row)
        if one.failure is not None or np.isnan(one.values[wanted]).any():
            continue
        values = np.where(wanted, one.values, 0.0)  # what is not asked for counts nothing
        found[i] = log_probability(values[None], row, prompt.attributes, precision=precision)[0]
    return found


def weigh(recipe: SteerlmRecipe, attributes: Floats, text: Floats, sampler: Floats) -> Weights:
    """Weights of answers.

    Args:
        recipe: answers of a group, and the largest weight.
        attributes: log P(a | x, y), shape [n]; NaN for an answer that is not there.
        text: log P(y | x), shape [n].
        sampler: log Q'(y | a, x), shape [n].

    Raises:
        SteerworksError: no group is left.
    """
    weight = np.full(len(attributes), np.nan)
    effective, left_out = [], 0
    for start in range(0, len(attributes), recipe.answers):
        own = np.arange(start, start + recipe.answers)
        there = own[~np.isnan(attributes[own])]
        if len(there) < 2:
            left_out += 1
            continue
        weight[own] = 0.0
        if recipe.most_weight is not None and recipe.most_weight * len(there) <= 1.0:
            # so few answers cannot stay below the bound: none counts more than another
            weight[there] = 1.0 / len(there)
        else:
            weight[there] = sample_weights(attributes[there], text[there], sampler[there], most=recipe.most_weight)
        effective.append(float(effective_sample_size(weight[there])))
    if not effective:
        raise SteerworksError(
            f"none of {left_out} requests has two answers that could be weighted: nothing can be learnt; raise "
            "`answers` or `max_new_tokens`"
        )
    return Weights(weight, attributes, np.array(effective), left_out)
