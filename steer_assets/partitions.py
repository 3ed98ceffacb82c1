"""Cells: one model and one method of a bench. The one place that makes and reads partition keys."""

from __future__ import annotations

from dataclasses import dataclass

import dagster as dg

from schemas.specs import BenchSpec, MethodSpec, ModelSpec
from steer_assets.settings import registry
from steer_core.methods.load import why_impossible


@dataclass(frozen=True)
class Cell:
    """A model and a method on a bench."""

    bench: BenchSpec
    model: ModelSpec
    method: MethodSpec

    @property
    def key(self) -> str:
        """`method|model`: Dagster sorts the dimensions by name."""
        return f"{self.method.name}|{self.model.name}"

    def why_impossible(self) -> str | None:
        """Why the cell makes no sense, or None."""
        return why_impossible(self.method, self.model, self.bench, registry().goals_of(self.bench))


def cell_partitions(bench: BenchSpec) -> dg.MultiPartitionsDefinition:
    """The grid of a bench."""
    return dg.MultiPartitionsDefinition(
        {
            "method": dg.StaticPartitionsDefinition(list(bench.methods)),
            "model": dg.StaticPartitionsDefinition(list(bench.models)),
        }
    )


def read_key(bench: BenchSpec, key: str) -> Cell:
    """The cell of a partition key; works on plain strings and on `MultiPartitionKey`."""
    method, model = str(key).split("|")
    return Cell(bench, registry().model(model), registry().method(method))


def all_cells(bench: BenchSpec) -> list[Cell]:
    """The whole grid, controls first."""
    methods = sorted(map(registry().method, bench.methods), key=lambda m: not m.control)
    return [Cell(bench, registry().model(model), method) for model in bench.models for method in methods]


def valid_cells(bench: BenchSpec) -> list[Cell]:
    """Cells that make sense: what schedules, backfills and the demo run."""
    return [c for c in all_cells(bench) if c.why_impossible() is None]


def controls(bench: BenchSpec) -> list[str]:
    """Names of the bench's control methods."""
    return [m for m in bench.methods if registry().method(m).control]


def held_against(bench: BenchSpec, method: str) -> list[str]:
    """Controls that a method is compared with: all of them; a control, those before it.

    So the order of the controls is an order in which cells can be run once and for all.
    """
    known = controls(bench)
    return known[: known.index(method)] if method in known else known
