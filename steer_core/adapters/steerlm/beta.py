"""P(level | text) from a regression (SteerLM 2.0, Wang et al. 2024): a Beta distribution around the prediction.

With r = (prediction - low) / (high - low): P(level k) = F(e_{k+1}) - F(e_k), F of Beta(24 r, 24 (1 - r)); 24 is what
the published labels' noise is like. The paper prints no edges e. `rounding` are those that rounding a prediction has
(0, 1/8, 3/8, 5/8, 7/8, 1 for five levels), `fifths` are equal shares of [0, 1]. At r = 0 or 1 there is no Beta: r is
kept `CLIP` away from both.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from schemas.steerlm import AttributeSet, AttributeSpec
from steer_core.adapters.steerlm.labels import ranges

Floats = NDArray[np.float64]
Edges = Literal["rounding", "fifths"]

PRECISION = 24.0
CLIP = 0.01


def level_edges(n: int, edges: Edges = "rounding") -> Floats:
    """Borders of n levels in [0, 1], shape [n + 1].

    Raises:
        ValueError: fewer than two levels.
    """
    if n < 2:
        raise ValueError(f"{n} levels: an attribute has at least two")
    inner = (np.arange(n - 1) + 0.5) / (n - 1) if edges == "rounding" else np.arange(1, n) / n
    return np.concatenate([[0.0], inner, [1.0]])


def level_probabilities(
    predicted: Floats,
    attribute: AttributeSpec,
    *,
    edges: Edges = "rounding",
    precision: float = PRECISION,
    clip: float = CLIP,
) -> Floats:
    """Probability of each level.

    Args:
        predicted: in levels, any shape [...]; beyond the range it counts as its end.
        attribute: its levels.
        edges: see the top of the file.
        precision: alpha + beta.
        clip: how far r stays from 0 and 1, above 0.

    Returns:
        Shape [..., levels], lowest first; 1 in sum. Far levels keep their leading digits: no tail is 1 minus nearly 1.

    Raises:
        ValueError: a prediction is no finite number, or precision or clip make no distribution.
    """
    from scipy.special import betainc, betaincc

    if not np.isfinite(predicted).all():
        raise ValueError("a prediction is no finite number: the attribute model is damaged or diverged")
    if not precision > 0.0 or not 0.0 < clip < 0.5:
        raise ValueError(f"precision = {precision} above 0 and clip = {clip} in (0, .5) make a distribution")
    share = np.clip((predicted - attribute.low) / (attribute.high - attribute.low), clip, 1.0 - clip)[..., None]
    alpha, beta = precision * share, precision * (1.0 - share)
    borders = level_edges(len(attribute.levels), edges)
    below, above = betainc(alpha, beta, borders), betaincc(alpha, beta, borders)
    left = np.diff(below, axis=-1)
    right = -np.diff(above, axis=-1)
    # the smaller of two tails has the digits
    return np.asarray(np.where(borders[:-1] >= share, right, left))


def log_probability(
    predicted: Floats,
    labels: Floats,
    attributes: AttributeSet,
    *,
    edges: Edges = "rounding",
    precision: float = PRECISION,
    clip: float = CLIP,
) -> Floats:
    """Log P(a | x, y) in nats, attributes taken as independent given the text.

    Args:
        predicted: in levels, shape [n, attributes].
        labels: levels asked for, shape [attributes] or [n, attributes]; NaN is not asked for.
        attributes: names and levels.
        edges: as in `level_probabilities`.
        precision: likewise.
        clip: likewise.

    Returns:
        Shape [n].

    Raises:
        ValueError: shapes differ, or a label is no level.
    """
    asked = np.broadcast_to(labels, predicted.shape)
    low, high = ranges(attributes)
    if predicted.ndim != 2 or predicted.shape[1] != len(attributes):
        raise ValueError(f"predictions of shape {predicted.shape} for {len(attributes)} attributes")
    known = ~np.isnan(asked)
    level = np.where(known, asked, low)
    if (level != np.round(level)).any() or (level < low).any() or (level > high).any():
        raise ValueError("a label is no level of its attribute")
    total = np.zeros(len(predicted))
    for k, attribute in enumerate(attributes.attributes):
        p = level_probabilities(predicted[:, k], attribute, edges=edges, precision=precision, clip=clip)
        place = (level[:, k] - low[k]).astype(np.int64)
        with np.errstate(divide="ignore"):
            total += np.where(known[:, k], np.log(p[np.arange(len(p)), place]), 0.0)
    return total
