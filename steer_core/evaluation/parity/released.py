"""The released 64 x 32 probe of Chang et al. (2025): the moves that its 2048 requests ask for.

The texts are on the hub (`tchang97/steerbench`, MIT); the moves alone are also the keys of the edit lists that the
authors' repository keeps, and ship here with all their digits (61 kB). Rows of one text stand together, 32 each.
"""

from __future__ import annotations

import csv
import functools
import gzip
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Goals in the order of the file's columns.
GOALS = ("reading_difficulty", "textual_diversity", "text_length", "formality")
#: Requests of each text.
PER_TEXT = 32
FILE = Path(__file__).parent / "released_probe_deltas.csv.gz"


@functools.cache
def _table() -> Floats:
    with gzip.open(FILE, "rt", encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    columns = [f"delta_{goal}" for goal in GOALS]
    return np.array([[float(row[c]) if row[c] else np.nan for c in columns] for row in rows])


def released_deltas() -> Floats:
    """Moves that are asked for, shape [2048, 4] in the order of `GOALS`; NaN where a goal is inactive."""
    return _table().copy()


def recovered_starts(deltas: Floats, dead_zone: float = 0.1, furthest: float = 0.7) -> Floats:
    """Where the texts must have started, from how far their requests go up and down.

    A move up ends at `min(1 - z0, furthest)`, a move down at `min(z0, furthest)`: of 24 moves on a goal of a text the
    largest each way stands close to those, and at least one of the two is below `furthest`. Which side no move takes
    has no room beyond the dead zone.

    Args:
        deltas: requested moves, [n, d], the requests of one text together, `PER_TEXT` each.
        dead_zone: smallest move.
        furthest: largest move.

    Returns:
        Starts, shape [n, d], equal for the requests of a text; within .02 of the truth at the median, .07 for nine of
        ten.
    """
    starts = np.empty_like(deltas)
    # a largest move this close to `furthest` was limited by it, not by the text
    capped = furthest - 0.05
    for first in range(0, len(deltas), PER_TEXT):
        for goal in range(deltas.shape[1]):
            moves = deltas[first : first + PER_TEXT, goal]
            up, down = moves[moves > 0], -moves[moves < 0]
            low = 0.0 if not len(down) else float(down.max())
            high = 1.0 if not len(up) else 1.0 - float(up.max())
            if not len(up):
                start = 1.0 - dead_zone / 2
            elif not len(down):
                start = dead_zone / 2
            elif low >= capped:
                start = high
            elif 1.0 - high >= capped:
                start = low
            else:
                start = (low + high) / 2
            starts[first : first + PER_TEXT, goal] = start
    return starts
