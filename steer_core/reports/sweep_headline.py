"""What a sweep shows, in sentences: claims on an interval without 0, or on a rank that so many controls can carry."""

from __future__ import annotations

from typing import Any

import polars as pl

from steer_core.evaluation.behaviors.side_effects import JUDGED
from steer_core.reports.numbers import number, p_value, percent, plural, slug_words, span
from steer_core.reports.sweeps import Sweep, measure_words, strength_words
from steer_core.statistics import LEVEL, least_controls


def sentences(sweep: Sweep) -> tuple[str, ...]:
    """What the sweep shows, the headline first. A movement is claimed only where its 95 % interval excludes 0."""
    name = slug_words(sweep.behavior)
    if sweep.layers is None:
        return (f"{name}: no arm with a vector was planned, so there is nothing to say about steering it.",)
    if sweep.measure is None:
        planned = plural(sweep.arms.height, "arm")
        return (f"{name}: {planned} planned and nothing measured yet; materialize `arm_summary`.",)
    ends = _ends(sweep)
    if not ends:
        return (f"{name}: no arm with a vector has a value of its own; see what is missing below.",)
    said = [_movement(sweep, name, ends)]
    said += _against_random(sweep, ends)
    said += _trend(sweep)
    said += _price(sweep)
    prompts = [
        f"{label} {number(row['mean'], sweep.digits(sweep.measure))}" for label, row in sweep.prompts(sweep.measure)
    ]
    if prompts:
        said.append(f"For comparison, without a vector: {', '.join(prompts)}.")
    return tuple(said)


def _ends(sweep: Sweep) -> list[dict[str, Any]]:
    """Summary rows of the vector's lowest and highest strength; one where there is only one."""
    rows = sweep.curve(sweep.measure or JUDGED).filter(pl.col("mean").is_not_null()).to_dicts()
    return rows[:1] if len(rows) == 1 else [rows[0], rows[-1]] if rows else []


def _movement(sweep: Sweep, name: str, ends: list[dict[str, Any]]) -> str:
    measure = sweep.measure or JUDGED
    digits = sweep.digits(measure)
    off = sweep.unsteered(measure)
    at = {
        row["strength"]: f"{number(row['mean'], digits)} at {strength_words(row['strength'], row['unit'])}"
        for row in ends
    }
    if off is None or off["mean"] is None:
        return (
            f"{name} stands at {' and '.join(at.values())}{_of_what(sweep)}; without a value of the unsteered arm "
            "nobody can say whether that is a movement."
        )
    base = number(off["mean"], digits)
    moved = [row for row in ends if _excludes_zero(row["difference_low"], row["difference_high"])]
    if not moved:
        unknown = all(row["difference_low"] is None for row in ends)
        why = "too few items for an interval" if unknown else "no interval of the difference excludes 0"
        return f"{name} does not measurably move: {base} unsteered, {', '.join(at.values())}{_of_what(sweep)}; {why}."
    text = (
        f"{name} moves from {base} unsteered to {' and '.join(at[row['strength']] for row in moved)}{_of_what(sweep)}"
    )
    still = [at[row["strength"]] for row in ends if row not in moved]
    return f"{text}; {still[0]} is no measurable movement." if still else f"{text}."


def _of_what(sweep: Sweep) -> str:
    if sweep.measure == JUDGED:
        return "" if sweep.scale is None else f" on a scale of {sweep.scale[0]:g} to {sweep.scale[1]:g}"
    return f" ({measure_words(sweep.measure or '')})"


def _excludes_zero(low: float | None, high: float | None) -> bool:
    return low is not None and high is not None and (low > 0 or high < 0)


def _against_random(sweep: Sweep, ends: list[dict[str, Any]]) -> list[str]:
    """Whether the vector does more than a push of equal size: its rank among random directions, then shuffled labels.

    Said of an end only where the rank p is at most `LEVEL`, which so many controls can reach; else the count is given.
    """
    said = []
    measure = sweep.measure or JUDGED
    for role, kind, kinds in (
        ("random", "random direction", "random directions"),
        ("shuffled", "vector of shuffled labels", "vectors of shuffled labels"),
    ):
        if sweep.control(role, measure).filter(pl.col("difference").is_not_null()).is_empty():
            if role == "random":
                said.append("No random direction was run: nobody can say whether any push of that size does the same.")
            continue
        found = [
            (strength_words(row["strength"], row["unit"]), sweep.found(f"p_{role}_{end}"))
            for end, row in zip(("low", "high") if len(ends) == 2 else ("high",), ends, strict=True)
        ]
        ranked = [
            (where, row["value"], row["n"]) for where, row in found if row is not None and row["value"] is not None
        ]
        if not ranked:
            said.append(f"Its rank among the {kinds} is not in the findings: materialize `arm_summary` again.")
            continue
        parts = [_ranked(where, p, n, kind, kinds) for where, p, n in ranked]
        text = " and ".join(parts)
        said.append(f"{text[0].upper()}{text[1:]}.")
        few = min(n for _, _, n in ranked)
        if role == "random" and few < least_controls():
            said.append(
                f"{few} {kind if few == 1 else kinds} cannot carry a verdict: that takes {least_controls()} of them."
            )
    return said


def _ranked(where: str, p: float, n: int, kind: str, kinds: str) -> str:
    as_far = round(p * (n + 1)) - 1
    if n >= least_controls() and p <= LEVEL:
        beaten = f"all {n}" if as_far == 0 else f"{n - as_far} of {n}"
        return f"at {where} it moves farther than {beaten} {kinds} of equal size (rank p = {p_value(p)})"
    rank = f" (rank p = {p_value(p)})" if n >= least_controls() else ""
    if n == 1:
        return f"at {where} the one {kind} of equal size {'moves' if as_far else 'does not move'} it as far"
    count = "none" if as_far == 0 else str(as_far)
    return (
        f"at {where}, {count} of {n} {kinds} of equal size move{'s' if as_far < 2 else ''} it as far or farther{rank}"
    )


def _trend(sweep: Sweep) -> list[str]:
    said = []
    rank = sweep.found("spearman")
    if rank is not None and rank["value"] is not None:
        said.append(f"rank correlation with strength {number(rank['value'])} {span(rank['low'], rank['high'])}")
    against = sweep.found("anti_steerable")
    if against is not None and against["value"] is not None:
        said.append(f"{percent(against['value'])} of {plural(against['n'], 'item')} move against the vector")
    return [f"{'; '.join(said).capitalize()}."] if said else []


def _price(sweep: Sweep) -> list[str]:
    parts = []
    ends = _ends(sweep)
    for end, row in zip(("low", "high") if len(ends) == 2 else ("high",), ends, strict=True):
        ratio = sweep.found(f"ratio_{end}", "perplexity")
        if ratio is not None and ratio["value"] is not None:
            parts.append(f"{number(ratio['value'])} times at {strength_words(row['strength'], row['unit'])}")
    return [f"Perplexity against unsteered: {' and '.join(parts)}."] if parts else []
