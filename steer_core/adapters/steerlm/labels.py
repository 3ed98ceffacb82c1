"""Labels: levels of attributes, as a string that a model reads and writes, and as a row of numbers.

A label string is `name:level` joined with commas, without blanks, in the order of the attributes; what is not known is
left out (Dong et al. 2023). An empty string says nothing, and then no label is written at all.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from schemas.steerlm import AttributeSet, AttributeSpec
from steer_core.tables.errors import SteerworksError

Floats = NDArray[np.float64]
#: Attribute -> level, None where it is not known.
Labels = Mapping[str, int | None]
#: `half_even`: .5 to the even level, as the published scripts do (it favours even levels); `half_up`: to the upper one.
Rounding = Literal["half_up", "half_even"]


def label_string(labels: Labels, attributes: AttributeSet) -> str:
    """Labels as a string.

    Args:
        labels: levels; None and absent ones are left out.
        attributes: which there are, and their order.

    Raises:
        SteerworksError: an attribute is unknown, or a level is none of its levels.
    """
    check_labels(labels, attributes)
    return ",".join(f"{name}:{labels[name]}" for name in attributes.names if labels.get(name) is not None)


def read_label_string(text: str, attributes: AttributeSet) -> dict[str, int]:
    """The inverse of `label_string`; takes any order, since a model wrote it.

    Raises:
        SteerworksError: it is no label string, names an attribute twice, or says what `label_string` would refuse.
    """
    found: dict[str, int] = {}
    for part in text.split(",") if text else ():
        match = re.fullmatch(r"([A-Za-z][A-Za-z0-9_]*):(-?[0-9]+)", part)
        if match is None:
            raise SteerworksError(f"label string {text!r}: {part!r} is not `name:level`")
        if match[1] in found:
            raise SteerworksError(f"label string {text!r} names {match[1]!r} twice")
        found[match[1]] = int(match[2])
    check_labels(found, attributes)
    return found


def check_labels(labels: Labels, attributes: AttributeSet) -> None:
    """Look whether all labels are known attributes at levels that they have.

    Raises:
        SteerworksError: names the first that is not.
    """
    known = {a.name: a for a in attributes.attributes}
    for name, level in labels.items():
        if name not in known:
            raise SteerworksError(f"unknown attribute {name!r}; there are: {', '.join(known)}")
        if level is None:
            continue
        spec = known[name]
        if isinstance(level, bool) or level != int(level) or not spec.low <= level <= spec.high:
            raise SteerworksError(
                f"attribute {name!r} has the level {level!r}: levels are whole numbers from {spec.low} to {spec.high}"
            )


def level_of_share(share: float, attribute: AttributeSpec, rounding: Rounding = "half_up") -> int:
    """The level of a rating in [0, 1], such as OASST has: low + round((high - low) share).

    Raises:
        SteerworksError: the rating lies outside [0, 1].
    """
    if not 0.0 <= share <= 1.0:
        raise SteerworksError(f"attribute {attribute.name!r} is rated {share!r}: ratings lie in [0, 1]")
    value = (attribute.high - attribute.low) * share
    return attribute.low + (round(value) if rounding == "half_even" else math.floor(value + 0.5))


def nearest_levels(values: Floats, attributes: AttributeSet) -> NDArray[np.int64]:
    """Predictions [n, attributes] as levels: brought into the range, then rounded (halves up).

    Raises:
        SteerworksError: the columns are not the attributes, or a prediction is no number.
    """
    if values.ndim != 2 or values.shape[1] != len(attributes):
        raise SteerworksError(f"predictions of shape {values.shape} for {len(attributes)} attributes")
    if not np.isfinite(values).all():
        raise SteerworksError("a prediction is no finite number: the attribute model is damaged or diverged")
    low, high = ranges(attributes)
    found: NDArray[np.int64] = np.floor(np.clip(values, low, high) + 0.5).astype(np.int64)
    return found


def target_row(labels: Labels, attributes: AttributeSet) -> Floats:
    """Levels as numbers, shape [attributes]; NaN where not known.

    Raises:
        SteerworksError: as `check_labels`.
    """
    check_labels(labels, attributes)
    levels = [labels.get(name) for name in attributes.names]
    return np.array([np.nan if level is None else float(level) for level in levels])


def ranges(attributes: AttributeSet) -> tuple[Floats, Floats]:
    """Lowest and highest levels, each of shape [attributes]."""
    low = np.array([a.low for a in attributes.attributes], dtype=np.float64)
    return low, np.array([a.high for a in attributes.attributes], dtype=np.float64)


def drop_some(labels: Labels, rate: float, rng: np.random.Generator) -> dict[str, int]:
    """Labels of which each is left out with probability `rate`, so that a model also learns to be asked for a few.

    Raises:
        ValueError: the rate is no probability.
    """
    if not 0.0 <= rate <= 1.0:
        raise ValueError(f"rate = {rate}: the share that is left out lies in [0, 1]")
    return {name: level for name, level in labels.items() if rng.random() >= rate and level is not None}
