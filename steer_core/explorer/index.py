"""One narrow row a sample, of all cells of a bench: what filters and orders look at. Texts stay on disk.

A sample is a request as one arm of one cell answered it. Requests are numbered once for the bench, so that a row has a
number in the place of ids, and what a request asks for is held once however many cells answered it.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from steer_core.evaluation.costs import cost_unknown
from steer_core.explorer.bench import Bench

#: Figures of `steerability` that a sample can be ordered by, with what each is in words.
FIGURES = {
    "error": "steering error",
    "requested": "distance asked",
    "moved": "distance moved",
    "miscalibration": "miscalibration",
    "orthogonality": "orthogonality",
    "error_worst": "error, failures at worst",
    "meaning_content": "meaning kept (words)",
    "meaning_chrf": "meaning kept (chrF)",
    "meaning_embedding": "meaning kept (embedding)",
}
#: Columns of `outcomes`.
COSTS = {"completion_tokens": "tokens written", "n_calls": "calls", "prompt_tokens": "tokens read"}
_SHOWN = ("arm_id", "request_id", "probe", "failure", "copied")


@dataclass(frozen=True)
class Asked:
    """The requests of a bench.

    Attributes:
        ids: `request_id` by number.
        texts: `text_id` by number.
        number: `request_id` -> number, as a frame to join.
        deltas: goal -> z* - z0 by number; NaN where it is not asked.
        starts: goal -> z0 by number.
    """

    ids: pl.Series
    texts: pl.Series
    number: pl.DataFrame
    deltas: dict[str, NDArray[np.float32]]
    starts: dict[str, NDArray[np.float32]]


@dataclass
class Index:
    """All samples of a bench; cells whose tables have changed are read again when it is next asked for.

    Attributes:
        bench: the bench.
        version: counts how often there were other samples than before.
    """

    bench: Bench
    version: int = 0
    _cells: dict[str, tuple[tuple[str, ...], pl.DataFrame]] = field(default_factory=dict)
    _asked: tuple[tuple[str, ...], Asked] | None = None
    _all: tuple[tuple[tuple[str, ...], ...], pl.DataFrame] | None = None
    _moves: dict[tuple[str, tuple[str, ...]], NDArray[np.float32]] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def asked(self) -> Asked:
        """What is asked for, on all probes."""
        with self._lock:
            marks = self.bench.marks(["requests", "request_goals", "goal_space"])
            if self._asked is None or self._asked[0] != marks:
                self._asked = (marks, self._read_asked())
                # rows have numbers of requests, which are others from here on
                self._cells.clear()
                self._moves.clear()
                self._all = None
            return self._asked[1]

    def samples(self) -> pl.DataFrame:
        """All samples.

        Returns:
            `cell`, `arm`, `probe`, `failure` (categories), `copied`, `number` of the request, `row` in the cell's
            `outcomes`, the figures, `left` (error over distance asked), and the costs.
        """
        with self._lock:
            asked = self.asked()
            cells = self.bench.cells()
            marks = tuple((cell, *self.bench.marks(["steerability", "outcomes"], cell)) for cell in cells)
            if self._all is not None and self._all[0] == marks:
                return self._all[1]
            states = {cell: tuple(mark) for cell, *mark in marks}
            new = [c for c, mark in states.items() if c not in self._cells or self._cells[c][0] != mark]
            read = self.bench.side_by_side(lambda cell: self._read(cell, asked), new)
            self._cells |= {cell: (states[cell], rows) for cell, rows in zip(new, read, strict=True)}
            for gone in self._cells.keys() - set(cells):
                del self._cells[gone]
            frames = [self._cells[cell][1] for cell in cells]
            # one schema without a cell, too
            rows = pl.concat(frames) if frames else self._read("", asked)
            arms = pl.col("arm", "probe", "failure").cast(pl.Categorical)
            rows = rows.with_columns(pl.col("cell").cast(pl.Enum(cells)), arms)
            self._all = (marks, rows)
            self.version += 1
            self._moves.clear()
            return rows

    def moves(self, goal: str) -> NDArray[np.float32]:
        """Where each sample ended on a goal, z^, in the order of `samples`; NaN where nobody knows."""
        with self._lock:
            samples = self.samples()
            assert self._all is not None
            key = (goal, tuple(m for mark in self._all[0] for m in mark))
            if key not in self._moves:
                asked = self.asked()
                parts = self.bench.side_by_side(
                    lambda part: self._read_moves(part[0], goal, part[1], asked), _by_cell(samples)
                )
                self._moves[key] = np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)
            return self._moves[key]

    def _read_asked(self) -> Asked:
        requests = self.bench.columns("requests", ["request_id", "text_id"])
        number = requests.select("request_id").with_row_index("number")
        goals = self.bench.columns("request_goals", ["request_id", "goal", "z0", "z_star"])
        deltas, starts = {}, {}
        for goal in self.bench.axes:
            own = number.join(goals.filter(pl.col("goal") == goal), on="request_id", how="left", maintain_order="left")
            starts[goal] = _floats(own["z0"])
            deltas[goal] = _floats(own["z_star"] - own["z0"])
        return Asked(requests["request_id"], requests["text_id"], number, deltas, starts)

    def _read(self, cell: str, asked: Asked) -> pl.DataFrame:
        scores = self.bench.columns("steerability", [*_SHOWN, *FIGURES], cell)
        costs = self.bench.columns("outcomes", ["arm_id", "request_id", "copied", *COSTS], cell).with_row_index("row")
        unknown = bool(costs.select(cost_unknown().any()).item())
        costs = costs.drop("copied")
        if unknown:
            costs = costs.with_columns(pl.lit(None, costs.schema[c]).alias(c) for c in COSTS)
        keys = ["arm_id", "request_id"]
        if scores.height == costs.height and all(scores[k].equals(costs[k]) for k in keys):
            # written in one order, as they mostly are: a join of a million ids takes a second
            joined = scores.hstack(costs.drop(keys))
        else:
            joined = scores.join(costs, on=keys, how="left", maintain_order="left")
        joined = joined.join(asked.number, on="request_id", how="inner", maintain_order="left")
        return joined.select(
            pl.lit(cell).alias("cell"),
            pl.col("arm_id").alias("arm"),
            "probe",
            "failure",
            "copied",
            "number",
            pl.col("row").cast(pl.UInt32),
            pl.col(*FIGURES).cast(pl.Float32),
            # where nothing was asked there is no share of it
            pl.when(pl.col("requested") > 0).then(pl.col("error") / pl.col("requested")).cast(pl.Float32).alias("left"),
            pl.col(*COSTS).cast(pl.Int32),
        )

    def _read_moves(self, cell: str, goal: str, own: pl.DataFrame, asked: Asked) -> NDArray[np.float32]:
        moves = self.bench.columns("goal_movements", ["arm_id", "request_id", "goal", "z_hat"], cell)
        moves = moves.filter(pl.col("goal") == goal)
        ids = asked.ids.gather(own["number"])
        if moves.height == own.height and moves["request_id"].equals(ids) and own["arm"].n_unique() == 1:
            return _floats(moves["z_hat"])
        moves = moves.join(asked.number, on="request_id", how="inner")
        keyed = own.select(pl.col("arm").cast(pl.String).alias("arm_id"), "number")
        found = keyed.join(
            moves.select("arm_id", "number", "z_hat"), on=["arm_id", "number"], how="left", maintain_order="left"
        )
        return _floats(found["z_hat"])


def _by_cell(samples: pl.DataFrame) -> list[tuple[str, pl.DataFrame]]:
    # cells lie one after the other
    return [(str(cell), own) for (cell,), own in samples.group_by("cell", maintain_order=True)]


def _floats(values: pl.Series) -> NDArray[np.float32]:
    return values.cast(pl.Float32).fill_null(float("nan")).to_numpy()
