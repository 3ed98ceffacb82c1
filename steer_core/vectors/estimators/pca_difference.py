"""First principal component of the paired differences (linear artificial tomography, Zou et al. 2023)."""

from __future__ import annotations

import numpy as np

from steer_core.tables.errors import SteerworksError
from steer_core.vectors.evidence import Evidence, Fit
from steer_core.vectors.linalg import agree, as_rows, leading_component

NEEDS: frozenset[str] = frozenset({"differences", "difference_covariance"})
OPERATOR = "add"


def fit(evidence: Evidence, *, centered: bool = False) -> Fit:
    """Unit component u with the largest sum of (u . d_i)^2 over the differences d_i, with sign and norm of their mean.

    Args:
        evidence: moments of the paired differences.
        centered: subtract the mean difference first. Then u is the direction in which pairs *disagree* most; without
            it, which is the component of the differences taken both ways round, the mean counts too.

    Raises:
        SteerworksError: the data are not paired, or do not differ.
    """
    pairs = evidence.pairs
    if pairs.outer is None:
        raise SteerworksError(f"{evidence.where}: second moments of the paired differences were not kept")
    mean = pairs.mean
    spread = pairs.covariance(ddof=0) if centered else pairs.outer / pairs.n
    if not float(np.trace(spread)) > 0.0:
        raise SteerworksError(f"{evidence.where}: the paired differences do not vary, so they have no component")
    component = agree(leading_component(spread), mean)
    return Fit(
        operator="add",
        tensors={"direction": as_rows(component * np.linalg.norm(mean))},
        scalars={"positive_share": evidence.positive_share},
    )
