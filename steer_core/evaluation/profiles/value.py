"""A value of a metric, or why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias


class Missing(str):
    """Why a metric has no value for a text, in words for the column `missing`; never a made-up number."""

    __slots__ = ()


Value: TypeAlias = float | Missing

NO_WORDS = Missing("no words")
NO_TOKENS = Missing("no tokens")
NO_LINES = Missing("no lines")
UNSPACED = Missing("its script puts no spaces between words")
NOT_LATIN = Missing("syllables are counted in Latin script only")


def all_missing(reason: Missing, width: int) -> tuple[Value, ...]:
    """One reason for every metric of a family of `width` metrics."""
    return (reason,) * width


def spread(values: Sequence[int]) -> tuple[float, float, float]:
    """Mean, median and standard deviation of the values themselves (not of a larger sample: divisor n); n >= 1."""
    n, total = len(values), sum(values)
    mean = total / n
    ordered = sorted(values)
    median = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    # from integers, so that equal values have exactly no spread
    variance = (n * sum([v * v for v in values]) - total * total) / (n * n)
    return mean, median, variance**0.5
