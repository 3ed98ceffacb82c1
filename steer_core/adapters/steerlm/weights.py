"""Weights of SteerLM 2.0 (Wang et al. 2024): how much each sampled answer counts towards P(y | a, x).

    log w_i = log P(a | x, y_i) + log P(y_i | x) - log Q'(y_i | a, x),    w' = softmax(log w)
    log b_i = log Q(y_i | a, x) - log Q'(y_i | a, x),                     b' = softmax(log b)

Answers y_i are drawn from Q'. Weights are those of self-normalised importance sampling: 1 / sum w'^2 says how many
answers they are worth (Kong 1992), and near 1 the step follows a single answer.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def sample_weights(
    log_attributes: Floats, log_text: Floats, log_sampler: Floats, *, most: float | None = None
) -> Floats:
    """W' of the answers of each prompt.

    Args:
        log_attributes: log P(a | x, y) in nats, shape [..., answers]; see `beta.log_probability`.
        log_text: log P(y | x) of the model that is not asked for anything.
        log_sampler: log Q'(y | a, x) of the model that wrote them, over the same tokens.
        most: the largest weight that one answer may have; what it has more is shared out in proportion. None: as is.

    Returns:
        Shape [..., answers], 1 in sum.

    Raises:
        ValueError: shapes differ, a log-probability is no finite number, or `most` leaves too little to share.
    """
    total = _sum_of(log_attributes, log_text, -np.asarray(log_sampler))
    weights = softmax(total)
    return weights if most is None else limited(weights, most)


def model_weights(log_model: Floats, log_sampler: Floats) -> Floats:
    """B' of the answers of each prompt: what the model under training has moved to.

    Args:
        log_model: log Q(y | a, x) of the model under training, shape [..., answers].
        log_sampler: log Q'(y | a, x).

    Raises:
        ValueError: as `sample_weights`.
    """
    return softmax(_sum_of(log_model, -np.asarray(log_sampler)))


def divergence(weights: Floats, other: Floats) -> Floats:
    """KL(weights || other) in nats over the last axis; inf where `other` lacks what `weights` has."""
    from scipy.special import rel_entr

    return np.asarray(rel_entr(weights, other).sum(-1))


def effective_sample_size(weights: Floats) -> Floats:
    """1 / sum w'^2 over the last axis: from 1 (one answer has it all) to their number (all count alike)."""
    return np.asarray(1.0 / np.square(weights).sum(-1))


def limited(weights: Floats, most: float) -> Floats:
    """Weights of which none is above `most`; the others keep their proportions.

    Raises:
        ValueError: `most` times their number is not above 1, so that they could not sum to 1.
    """
    n = weights.shape[-1]
    if not most * n > 1.0:
        raise ValueError(f"most = {most} for {n} answers: above {1.0 / n:g}, or they cannot sum to 1")
    found = np.array(weights, dtype=np.float64)
    held = np.zeros(found.shape, dtype=np.bool_)
    for _ in range(n):
        over = (found > most) & ~held
        if not over.any():
            break
        held |= over
        found = np.where(held, most, found)
        free = np.where(held, 0.0, found).sum(-1, keepdims=True)
        left = 1.0 - most * held.sum(-1, keepdims=True)
        # where all others have weight 0 they share what is left evenly
        even = left / np.maximum((~held).sum(-1, keepdims=True), 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            shared = np.where(free > 0.0, found * (left / free), even)
        found = np.where(held, most, np.where(held.any(-1, keepdims=True), shared, found))
    return found


def softmax(values: Floats) -> Floats:
    """exp(values) over their sum along the last axis."""
    shifted = np.exp(values - values.max(-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(-1, keepdims=True))


def _sum_of(*parts: Floats) -> Floats:
    shapes = {np.shape(p) for p in parts}
    if len(shapes) > 1 or not np.size(parts[0]):
        raise ValueError(f"log-probabilities of shapes {sorted(shapes)}: one number an answer of each")
    if not all(np.isfinite(p).all() for p in parts):
        raise ValueError("a log-probability is no finite number: leave the answer out beforehand")
    return np.asarray(sum(parts))
