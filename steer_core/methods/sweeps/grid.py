"""The strengths of a sweep: its ends, midpoints between them, and steps beyond them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from schemas.specs import SweepSpec
from schemas.vector_part import VectorPart

#: Digits kept of a computed strength, so that .1 + .2 is .3 and an arm is planned once.
DIGITS = 9


def strengths_of(part: VectorPart, sweep: SweepSpec) -> tuple[float, ...]:
    """Strengths of a sweep in rising order: the sweep's own, or else the part's, refined `sweep.midpoints` times."""
    return refine(sweep.strengths or part.strengths, sweep.midpoints)


def refine(strengths: Sequence[float], times: int = 1) -> tuple[float, ...]:
    """The strengths in rising order with the midpoint of each neighbouring two put between them.

    Arms are known by their content, so a refined grid costs its new arms only.

    Args:
        strengths: at least one.
        times: how often; 2 gives three new strengths between two old ones.

    Raises:
        ValueError: `times` is negative.
    """
    if times < 0:
        raise ValueError(f"times = {times}: a grid cannot be refined less than not at all")
    found = sorted(set(strengths))
    for _ in range(times):
        found = sorted({*found, *(round((a + b) / 2.0, DIGITS) for a, b in itertools.pairwise(found))})
    return tuple(found)


def widen(strengths: Sequence[float], times: int = 1) -> tuple[float, ...]:
    """The strengths in rising order with steps added at both ends, each as wide as the outermost step there.

    Args:
        strengths: at least two: one alone has no step.
        times: steps added at each end.

    Raises:
        ValueError: fewer than two strengths.
    """
    found = sorted(set(strengths))
    if len(found) < 2:
        raise ValueError(f"{len(found)} strength cannot be widened: give at least two, so that there is a step")
    down, up = found[1] - found[0], found[-1] - found[-2]
    below = [round(found[0] - down * k, DIGITS) for k in range(times, 0, -1)]
    above = [round(found[-1] + up * k, DIGITS) for k in range(1, times + 1)]
    return (*below, *found, *above)


def ends(strengths: Sequence[float]) -> tuple[float, ...]:
    """The smallest and the largest strength; one where they are the same."""
    return tuple(sorted({min(strengths), max(strengths)}))
