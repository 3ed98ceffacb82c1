"""Control: a random direction with the norm of the mean difference. What any push of that size does."""

from __future__ import annotations

import numpy as np

from schemas.digest import digest_bytes, digest_text
from steer_core.vectors.evidence import Evidence, Fit
from steer_core.vectors.linalg import as_rows

NEEDS: frozenset[str] = frozenset()
OPERATOR = "add"


def fit(evidence: Evidence, *, seed: int = 0) -> Fit:
    """A direction uniform on the sphere whose radius is |mean of the positives - mean of the negatives|.

    Args:
        evidence: both classes' means; only the norm of their difference is used.
        seed: with concept, layer, site and the positives' mean it decides the direction.

    Raises:
        SteerworksError: the means are equal, or a class is empty.
    """
    difference = evidence.mean_difference
    # other labels, another direction: the shuffled control of a random direction is a random direction
    labelled = digest_bytes(np.asarray(evidence.positive.mean, dtype="<f4").tobytes())
    place = f"{seed}:{evidence.concept}:{evidence.point.layer}:{evidence.point.site}:{labelled}"
    drawn = np.random.default_rng(int(digest_text(place)[:15], 16)).standard_normal(difference.shape)
    return Fit(
        operator="add",
        tensors={"direction": as_rows(drawn * (np.linalg.norm(difference) / np.linalg.norm(drawn)))},
        scalars={"positive_share": evidence.positive_share},
    )
