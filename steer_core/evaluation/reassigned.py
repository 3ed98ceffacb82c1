"""Whether answers fit the other requests on their texts better than their own."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from steer_core.statistics.paired import PairedContrast, paired_contrast

Floats = NDArray[np.float64]
#: Difference of errors below which there is none: one answer to all requests on a text differs by rounding alone.
ROUNDING = 1e-9


def reassigned(reached: Floats, targets: Floats, texts: NDArray[Any]) -> PairedContrast:
    """Error of each answer for its own request, against its mean error for the other requests on the same text.

    All requests on a text begin at the same place, so any of its answers can be held against any of its requests. A
    method that is deaf to what is asked fits both alike, in the mean exactly: summed over a text, each answer meets
    each request as often. One that steers fits its own better. Above 0, answers are swapped between the requests on a
    text, or steered the wrong way.

    Args:
        reached: places of the answers in goal space, shape [n, d]; NaN where undefined.
        targets: where each request asked to go, its start where it asked for nothing, shape [n, d].
        texts: label of each request's source text, shape [n].

    Returns:
        The contrast over requests whose text has others, clustered by text; an answer without a place has no part.
    """
    own = np.full(len(reached), np.nan)
    others = np.full(len(reached), np.nan)
    order = np.argsort(texts, kind="stable")
    _, begins = np.unique(texts[order], return_index=True)
    for rows in np.split(order, begins[1:]):
        # only answers with a place, so that each meets each request as often
        known = rows[~np.isnan(reached[rows]).any(axis=1) & ~np.isnan(targets[rows]).any(axis=1)]
        if len(known) < 2:
            continue
        errors = np.linalg.norm(reached[known][:, None, :] - targets[known][None, :, :], axis=-1)
        own[known] = np.diagonal(errors)
        others[known] = (errors.sum(axis=1) - own[known]) / (len(known) - 1)
    return paired_contrast(own, others, texts)


def fits_others(found: PairedContrast) -> bool:
    """Whether answers are known to fit the other requests on their texts better than their own."""
    return found.low is not None and found.low > ROUNDING
