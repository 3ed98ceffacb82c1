"""How much of what a prompt leaves a vector is asked for, and when: picked on the training pool.

A dose has side effects, and what a prompt leaves of one request is known with an error; asking for all of it makes
answers worse where that error is larger than what is left. So for each goal a share of what is left and a least amount
are picked: those with the least steering error on the training pool, all goals counted. Where none is better than no
dose by more than its standard error (the rule of Breiman et al. 1984), the goal gets no dose: it is left to the prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steer_core.methods.doses.inversion import DoseCurve
from steer_core.statistics import clustered_mean

Floats = NDArray[np.float64]

#: Shares of what the prompt leaves, and amounts below which nothing is applied.
SHARES = (1.0, 0.75, 0.5, 0.25)
FLOORS = (0.0, 0.1, 0.2, 0.3)
#: Half widths of a 95 % interval that a standard error is, nearly: the rule asks for no more.
ONE_ERROR = 0.5
#: Gains closer than this are equal.
TIE = 1e-9


@dataclass(frozen=True)
class Policy:
    """What is asked of one goal's vector.

    Attributes:
        share: of what the prompt leaves; 0: no dose helps, and none is given.
        floor: amounts below it get no dose.
        gain: mean steering error that the doses take away on the training pool; None where nothing could be compared.
        low, high: its 95 % interval over texts.
        dosed: share of the pool's requests that get a dose.
    """

    share: float = 1.0
    floor: float = 0.0
    gain: float | None = None
    low: float | None = None
    high: float | None = None
    dosed: float = 0.0

    def asks(self, left: float) -> float:
        """The move that is asked of the vector where the prompt leaves so much; 0: none."""
        return self.share * left if abs(left) >= self.floor else 0.0


@dataclass(frozen=True)
class Landings:
    """Where the answers of a trial landed, and where they should have.

    Attributes:
        wanted: target of each request, shape [n, goals]; of inactive goals their start.
        at: strength (None: no dose) -> where each request's answer landed, shape [n, goals]; NaN where it failed.
    """

    wanted: Floats
    at: Mapping[float | None, Floats]

    def errors(self, strengths: Sequence[float | None]) -> Floats:
        """Steering error of each request at a strength of its own, shape [n].

        Positions are linear between the strengths that were tried. A failed answer is as far off as one can be.
        """
        tried = {s: z for s, z in self.at.items() if s is not None}
        known = sorted(tried.items() if 0.0 in tried else [*tried.items(), (0.0, self.at[None])])
        doses = np.array([s for s, _ in known])
        found = self.at[None].copy()
        for row, strength in enumerate(strengths):
            if strength is None:
                continue
            above = int(np.clip(np.searchsorted(doses, strength), 1, len(doses) - 1))
            (s0, z0), (s1, z1) = known[above - 1], known[above]
            share = float(np.clip((strength - s0) / (s1 - s0), 0.0, 1.0))
            # where the strength is one that was tried, the other end says nothing
            ends = [w * z[row] for w, z in ((1.0 - share, z0), (share, z1)) if w > 0]
            found[row] = np.sum(ends, axis=0)
        error = np.sqrt(((found - self.wanted) ** 2).sum(axis=1))
        worst = np.sqrt((np.maximum(self.wanted, 1.0 - self.wanted) ** 2).sum(axis=1))
        return np.asarray(np.where(np.isfinite(error), error, worst), dtype=np.float64)


def choose_policy(curve: DoseCurve, left: Sequence[float], landings: Landings, labels: NDArray[np.str_]) -> Policy:
    """The policy of one goal.

    Args:
        curve: its dose-response.
        left: what the prompt leaves of each request's move, as the fit says.
        landings: where the answers of the trial landed.
        labels: source text of each request.
    """
    plain = landings.errors([None] * len(left))
    best = most = Policy(share=0.0)
    for share in SHARES:
        for floor in FLOORS:
            strengths = [curve.strength_for(Policy(share, floor).asks(x)) for x in left]
            found = clustered_mean(plain - landings.errors(strengths), labels)
            if found.value is None or found.low is None:
                continue
            dosed = float(np.mean([s is not None for s in strengths]))
            policy = Policy(share, floor, found.value, found.low, found.high, dosed)
            # of two that are as good, the one that asks for more
            if most.gain is None or found.value > most.gain + TIE:
                most = policy
            if found.value - ONE_ERROR * (found.value - found.low) > 0 and found.value > (best.gain or 0.0) + TIE:
                best = policy
    # the best that there was, if it was not good enough
    return best if best.share else Policy(0.0, 0.0, most.gain, most.low, most.high)
