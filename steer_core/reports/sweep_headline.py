"""What a sweep shows, in sentences: claims only where the 95 % interval of the paired difference excludes 0."""

from __future__ import annotations

from typing import Any

import polars as pl

from steer_core.evaluation.behaviors.side_effects import JUDGED
from steer_core.reports.numbers import number, percent, plural, slug_words, span
from steer_core.reports.sweeps import Sweep, measure_words, strength_words


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
    """Whether the vector does more than a push of equal size: against random directions, then shuffled labels."""
    said = []
    for role, many in (("random", "random directions"), ("shuffled", "vectors of shuffled labels")):
        rows = sweep.control(role, sweep.measure or JUDGED).filter(pl.col("difference").is_not_null())
        if rows.is_empty():
            if role == "random":
                said.append("No random direction was run: nobody can say whether any push of that size does the same.")
            continue
        farthest = rows["difference"].abs().to_numpy().max()
        n = rows["seed"].n_unique()
        digits = sweep.digits(sweep.measure or JUDGED)
        reach = f"within {number(float(farthest), digits)} of unsteered"
        short, held = [], False
        for end, row in zip(("low", "high") if len(ends) == 2 else ("high",), ends, strict=True):
            found = sweep.found(f"beyond_{role}_{end}")
            if found is None or found["value"] is None:
                continue
            held = True
            if found["low"] is None or found["low"] <= 0:
                sure = "not beyond them all" if found["value"] <= 0 else "beyond them, but not clearly"
                short.append(f"at {strength_words(row['strength'], row['unit'])} the vector is {sure}")
        whole = "the one" if n == 1 else "both" if n == 2 else f"all {n}"
        kind = many if n > 1 else many.replace("directions", "direction").replace("vectors", "vector")
        text = f"{whole.capitalize()} {kind} of equal size stay{'s' if n == 1 else ''} {reach}"
        least = min((abs(row["difference"]) for row in ends if row["difference"] is not None), default=0.0)
        if not short and held and float(farthest) >= least:
            # a control went as far, but the other way
            short.append("none comes as far as the vector in its direction")
        said.append(f"{text}; {' and '.join(short)}." if short else f"{text}.")
    return said


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
