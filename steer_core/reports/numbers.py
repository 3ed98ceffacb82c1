"""Figures looked up in the summary tables, and the way they are written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval; null ends where it is undefined."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    n_clusters: int


def interval(
    summary: pl.DataFrame,
    measure: str,
    *,
    goal: str = "overall",
    reading: str = "complete",
    statistic: str = "mean",
) -> Interval | None:
    """The figure of one probe's summary, or None where the summary has no such row.

    Args:
        summary: rows of `schemas.SteerabilitySummary`, of one probe.
        measure: measure's name.
        goal: goal, or `overall`.
        reading: `complete` or `worst`.
        statistic: `mean`, `median` or `iqr`.
    """
    wanted = {"measure": measure, "goal": goal, "reading": reading, "statistic": statistic}
    rows = summary.filter(*(pl.col(column) == value for column, value in wanted.items()))
    if rows.is_empty():
        return None
    row = rows.row(0, named=True)
    return Interval(row["value"], row["low"], row["high"], row["n"], row["n_clusters"])


def number(value: float | None, digits: int = 2) -> str:
    """A figure for a reader: a typographic minus, a dash where it is undefined."""
    if value is None:
        return "–"
    text = f"{value:,.{digits}f}"
    # -0.00 says a sign that the rounded figure does not have
    return text.lstrip("-") if float(text.replace(",", "")) == 0 else text.replace("-", "−")


def signed(value: float | None, digits: int = 2) -> str:
    """`number` with a plus in front of positive figures."""
    text = number(value, digits)
    return f"+{text}" if value is not None and value > 0 and text.strip("0.,") else text


def p_value(p: float) -> str:
    """A p value for a reader: three decimals, no more than it has."""
    return number(p, 3) if p < 0.0995 else number(p)


def percent(share: float | None, digits: int = 0) -> str:
    """A share as a percentage."""
    return "–" if share is None else f"{number(100 * share, digits)}\u00a0%"


def span(low: float | None, high: float | None, digits: int = 2) -> str:
    """An interval in brackets."""
    return "[undefined]" if low is None or high is None else f"[{number(low, digits)} to {number(high, digits)}]"


def percents(low: float | None, high: float | None) -> str:
    """An interval of a share, in brackets."""
    return "[undefined]" if low is None or high is None else f"[{number(100 * low, 0)} to {number(100 * high, 0)}]"


def plural(n: int, noun: str) -> str:
    """`1 text`, `2 texts`, `1,024 texts`."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def slug_words(slug: str) -> str:
    """A slug as words: `reading_difficulty` -> `reading difficulty`."""
    return slug.replace("_", " ")
