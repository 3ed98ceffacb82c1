"""Cells: one model and one method of a bench. The one place that makes and reads partition keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import dagster as dg

from schemas.specs import BenchSpec, MethodSpec, ModelSpec
from steer_assets.settings import registry
from steer_core.methods.load import why_impossible
from steer_core.registry_arrivals import is_submission
from steer_core.tables.errors import ConfigError


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
        if is_submission(self.method, self.bench) and self.model.kind != "elsewhere":
            return f"the answers of {self.method.name} were made elsewhere, and are not {self.model.name}'s"
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


def chosen_cells(bench: BenchSpec, methods: Sequence[str], models: Sequence[str] = ("all",)) -> list[Cell]:
    """Cells of these methods and models, controls first; `all` takes all.

    Raises:
        ConfigError: the bench has no such method or model; says which it has.
    """
    for kind, asked, known in (("method", methods, bench.methods), ("model", models, bench.models)):
        for name in asked:
            if name != "all" and name not in known:
                raise ConfigError(f"bench {bench.name!r} has no {kind} {name!r}; it has {', '.join(known)}")
    return [
        c
        for c in all_cells(bench)
        if ("all" in methods or c.method.name in methods) and ("all" in models or c.model.name in models)
    ]


def named_cell(bench: BenchSpec, name: str) -> Cell:
    """The cell `method|model` that a person named; the model may be left out where the bench has one.

    Raises:
        ConfigError: no such cell, or several.
    """
    method, _, model = name.partition("|")
    found = chosen_cells(bench, [method], [model or "all"])
    if "all" in (method, model) or len(found) != 1:
        raise ConfigError(f"{name!r} is not one cell: write method|model, one of {', '.join(c.key for c in found)}")
    return found[0]


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
