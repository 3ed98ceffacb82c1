"""The samples of a state, in its order: places in the index, and a page of them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from steer_core.explorer.bench import Bench
from steer_core.explorer.index import Index
from steer_core.explorer.state import ANY, State
from steer_core.reports.examples import MUCH_ABOVE, SLIGHTLY_BELOW

#: Orders that are kept: going from sample to sample asks for the same one again and again.
KEPT = 16
Places = NDArray[np.int64]


@dataclass
class Query:
    """Finds samples.

    Attributes:
        bench: the bench.
        index: of its samples.
    """

    bench: Bench
    index: Index
    _orders: OrderedDict[tuple[int, State], Places] = field(default_factory=OrderedDict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def places(self, state: State) -> Places:
        """Rows of `Index.samples` that a state shows, in its order; its page aside."""
        with self._lock:
            samples = self.index.samples()
            key = (self.index.version, state.having(page=1, per=1))
            if key in self._orders:
                self._orders.move_to_end(key)
                return self._orders[key]
            found = self._ordered(state, samples)
            # other samples than those that were there
            for old in [k for k in self._orders if k[0] != key[0]]:
                del self._orders[old]
            self._orders[key] = found
            while len(self._orders) > KEPT:
                self._orders.popitem(last=False)
            return found

    def page(self, state: State) -> pl.DataFrame:
        """The samples of a state's page, with `place` in its order."""
        places = self.places(state)
        first = (state.page - 1) * state.per
        shown = places[first : first + state.per]
        return self.index.samples()[shown].with_columns(
            place=pl.Series(range(first, first + len(shown)), dtype=pl.Int64)
        )

    def _ordered(self, state: State, samples: pl.DataFrame) -> Places:
        keep = self._kept(state, samples)
        places = np.flatnonzero(keep)
        if state.q:
            places = self._found(state, samples, places)
        if (state.low, state.high) != (0.0, 1.0) and places.size:
            errors = samples["error_worst"].to_numpy()[places]
            low, high = np.quantile(errors, [state.low, state.high])
            places = places[(errors >= low) & (errors <= high)]
        return places[_order(self._values(state, samples)[places], descending=state.descending)]

    def _kept(self, state: State, samples: pl.DataFrame) -> NDArray[np.bool_]:
        """Filters that look at no text."""
        wanted: list[Any] = []
        if state.cells:
            known = [c for c in state.cells if c in samples["cell"].dtype.categories]  # type: ignore[attr-defined]
            wanted.append(pl.col("cell").is_in(known))
        if state.arm != "*":
            wanted.append(pl.col("arm") == state.arm)
        if state.probe:
            wanted.append(pl.col("probe") == state.probe)
        if state.failure:
            null = pl.col("failure").is_null()
            kinds = {"none": null, "any": ~null}
            wanted.append(kinds.get(state.failure, (pl.col("failure") == state.failure).fill_null(value=False)))
        if state.copied:
            wanted.append(pl.col("copied") == (state.copied == "yes"))
        keep = np.ones(samples.height, dtype=bool)
        if wanted:
            keep = samples.select(pl.all_horizontal(wanted)).to_series().to_numpy()
        if state.goal:
            # requests are few: what they ask is looked at once each, and taken to their samples by number
            keep = keep & self._requests(state)[samples["number"].to_numpy()]
        return keep

    def _requests(self, state: State) -> NDArray[np.bool_]:
        if state.goal == ANY:
            goals = [self._requests(replace(state, goal=g)) for g in self.index.asked().deltas]
            some: NDArray[np.bool_] = np.logical_or.reduce(goals)
            return some
        delta = self.index.asked().deltas[state.goal]
        asked, size = np.isfinite(delta), np.abs(delta)
        if state.direction == "stay":
            return ~asked
        keep = asked & {"": asked, "up": delta > 0, "down": delta < 0}[state.direction]
        sizes = {
            "": asked,
            "slightly": size < SLIGHTLY_BELOW,
            "plain": (size >= SLIGHTLY_BELOW) & (size <= MUCH_ABOVE),
            "much": size > MUCH_ABOVE,
        }
        kept: NDArray[np.bool_] = keep & sizes[state.size]
        return kept

    def _found(self, state: State, samples: pl.DataFrame, places: Places) -> Places:
        """Those of the samples whose text holds what is searched for, small and capital letters alike."""
        holds = pl.col("text").str.contains_any([state.q], ascii_case_insensitive=True)
        own = samples.select("cell", "number", "row")[places].with_columns(place=pl.Series(places))
        if state.where == "source":
            sources = self.bench.columns("requests", ["text"]).select(holds).to_series().to_numpy()
            return own.filter(pl.Series(sources[own["number"].to_numpy()]))["place"].to_numpy()
        found = []
        for (cell,), part in own.group_by("cell", maintain_order=True):
            hit = self.bench.columns("outcomes", ["text"], str(cell)).select(holds).to_series().to_numpy()
            found.append(part["place"].to_numpy()[hit[part["row"].to_numpy()]])
        return np.concatenate(found) if found else places[:0]

    def _values(self, state: State, samples: pl.DataFrame) -> NDArray[np.float32]:
        """What samples are ordered by."""
        if not state.sort.startswith("goal:"):
            return samples[state.sort].cast(pl.Float32).fill_null(float("nan")).to_numpy()
        goal, asked = state.sort.removeprefix("goal:"), self.index.asked()
        number = samples["number"].to_numpy()
        start, delta = asked.starts[goal][number], asked.deltas[goal][number]
        # a goal that is not asked to move is asked to stay
        target = start + np.nan_to_num(delta, nan=0.0)
        distance: NDArray[np.float32] = np.abs(self.index.moves(goal) - target)
        return distance


def _order(values: NDArray[np.float32], *, descending: bool) -> Places:
    """An order of values, those without one last; equal ones stay as they stand."""
    keys = -values if descending else values
    # NaN sorts last as it is
    return np.argsort(keys, kind="stable")
