"""Item sets of profiles: what ships, files in published formats, and the hub, all as frames of one shape.

`SETS` names them; each load function takes its spec and gives columns `items.COLUMNS`. `read_set` gives beside
the frame how many rows asked the same as an earlier one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import polars as pl

from schemas.profile_sets import (
    AnySet,
    BbqSet,
    ChoicesSet,
    CrowsPairsSet,
    PromptsSet,
    SafetySet,
    SeatSet,
    StereoSetSet,
)
from steer_core.evaluation.profiles.sets import bbq, choices, prompts, safety, seat, stereotypes
from steer_core.evaluation.profiles.sets.items import COLUMNS, ItemSet

__all__ = ["COLUMNS", "SETS", "ItemSet", "load_set", "read_set"]

#: Name -> options, and what loads the items.
SETS: Mapping[str, tuple[type[AnySet], Callable[[Any], pl.DataFrame]]] = {
    "bbq": (BbqSet, bbq.load),
    "stereoset": (StereoSetSet, stereotypes.load_stereoset),
    "crows-pairs": (CrowsPairsSet, stereotypes.load_crows),
    "seat": (SeatSet, seat.load),
    "choices": (ChoicesSet, choices.load),
    "prompts": (PromptsSet, prompts.load),
    "safety": (SafetySet, safety.load),
}
_READ: Mapping[str, Callable[[Any], ItemSet]] = {
    "bbq": bbq.read,
    "stereoset": stereotypes.read_stereoset,
    "crows-pairs": stereotypes.read_crows,
    "seat": seat.read,
    "choices": choices.read,
    "prompts": prompts.read,
    "safety": safety.read,
}


def read_set(spec: AnySet) -> ItemSet:
    """Items of any set, and how many rows were dropped since an earlier one asks the same.

    Raises:
        SteerworksError: a row is broken, or the place cannot be read; names row and place.
    """
    return _READ[spec.kind](spec)


def load_set(spec: AnySet) -> pl.DataFrame:
    """Items of any set: columns `COLUMNS`.

    Raises:
        SteerworksError: see `read_set`.
    """
    return read_set(spec).items
