"""What a probe can detect, known before anything is run."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from steer_core.statistics.slope import centered

#: SD of the paired difference of steering error, assumed before there are data. Published errors of single models
#: have an IQR of .20 to .28 (Chang et al. 2025), hence an SD of .15 to .21; the difference of two such scores that
#: correlate at .3 has 1.2 times that, .18 to .25: the larger end, so that a plan does not promise too much.
PLANNING_SD = 0.25
#: Share of that variance that lies between source texts, assumed: requests on one text share its difficulty.
PLANNING_ICC = 0.2
#: SD of what is not asked for in an answer's position on one goal, between answers to one text, assumed before there
#: are data: the embedded model's answers have .14 to .15 under the direct prompt, .07 to .22 under a vector.
PLANNING_NOISE = 0.2
#: Share of worlds in which a request-blind method may be said to listen.
BLIND = 0.025


def design_effect(n_per_cluster: float, icc: float) -> float:
    """Factor by which clustering inflates the variance of a mean, 1 + (m - 1) icc (Kish 1965, section 5.4)."""
    return 1.0 + (n_per_cluster - 1.0) * icc


def smallest_effect(
    n_clusters: int,
    n_per_cluster: float,
    sd: float = PLANNING_SD,
    icc: float = PLANNING_ICC,
    *,
    power: float = 0.8,
    level: float = 0.05,
) -> float:
    """Smallest mean paired difference that a probe detects.

    Two-sided test of a mean of paired differences in clusters of equal size (normal approximation; Donner and Klar
    2000, chapter 5; the design effect is Kish's):

        effect = (z[1 - level / 2] + z[power]) * sd * sqrt((1 + (m - 1) icc) / (k m))

    with k clusters of m pairs. More requests on the same texts help only until `icc` is all that is left; more texts
    always help. The defaults of `sd` and `icc` are assumptions for planning, in units of the goal space.

    Args:
        n_clusters: source texts, k.
        n_per_cluster: requests a text, m.
        sd: standard deviation of the paired differences.
        icc: intra-cluster correlation, the share of that variance between texts, in [0, 1].
        power: chance of finding an effect of that size.
        level: two-sided significance level.

    Raises:
        ValueError: an argument outside its range.
    """
    if n_clusters < 1 or n_per_cluster < 1:
        raise ValueError(f"{n_clusters} texts with {n_per_cluster} requests each: a probe needs at least one of both")
    if sd < 0.0 or not 0.0 <= icc <= 1.0:
        raise ValueError(f"sd = {sd}, icc = {icc}: sd must not be negative and icc must lie in [0, 1]")
    if not (0.0 < power < 1.0 and 0.0 < level < 1.0):
        raise ValueError(f"power = {power}, level = {level}: both must lie between 0 and 1")
    quantiles = NormalDist().inv_cdf(1.0 - level / 2.0) + NormalDist().inv_cdf(power)
    # power below level / 2 would ask for a negative effect
    return max(quantiles, 0.0) * sd * math.sqrt(design_effect(n_per_cluster, icc) / (n_clusters * n_per_cluster))


def smallest_listener(
    asked: NDArray[np.float64], texts: NDArray[np.generic], noise: float = PLANNING_NOISE, *, power: float = 0.8
) -> float | None:
    """Smallest share of the requested move that a probe tells from none: what a method must make of a request.

    The inner product of moves asked and made, both centered within texts, has mean s S and SD noise sqrt(S), with
    S the sum of squares of the centered requests and s the share (one-sided at `BLIND`, normal approximation):

        s = (z[1 - BLIND] + z[power]) noise / sqrt(S)

    Args:
        asked: requested moves, [n, d], 0 where a goal was not asked for.
        texts: source text of each request, [n].
        noise: SD of an answer's position on one goal that has nothing to do with the request.
        power: chance of finding a listener of that size.

    Returns:
        None where no text is asked for two different things: nobody can be found to listen.
    """
    owner = np.unique(texts, return_inverse=True)[1]
    spread = float(sum((centered(asked[:, k], owner) ** 2).sum() for k in range(asked.shape[1])))
    if spread <= 0.0:
        return None
    return (NormalDist().inv_cdf(1.0 - BLIND) + NormalDist().inv_cdf(power)) * noise / math.sqrt(spread)
