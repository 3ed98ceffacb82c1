"""Nodes: the dozen Dagster assets of a bench. Each is a few declared tables, brought up to date one after the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import dagster as dg

from schemas.digest import digest_json
from schemas.specs import BenchSpec
from steer_assets.automation import follows
from steer_assets.compute import gpu_marks, gpu_tags, let_go
from steer_assets.contracts import table_schema
from steer_assets.devices import DEVICES
from steer_assets.figures import of_run
from steer_assets.partitions import Cell, cell_partitions, read_key
from steer_assets.pipes import within
from steer_assets.progress import drawing, says
from steer_assets.settings import storage_root
from steer_assets.steps import (
    NOT_HERE,
    BrokenContractError,
    Done,
    Fact,
    controls_of,
    is_current,
    missing_controls,
    run_step,
)
from steer_assets.tables import TableSpec, Work
from steer_core.tables.errors import ConfigError, SteerworksError

#: Groups of a bench's nodes, as suffixes of its name: all nodes of a group can be picked and launched together.
SHARED, CELLS, BOARD = "shared", "cells", "leaderboard"


@dataclass(frozen=True)
class Node:
    """Some tables under the name that a person knows them by.

    Attributes:
        name: last part of the asset's key.
        tables: declarations, each after those that it reads.
        description: what a person finds here.
        group: `SHARED`, `CELLS` (one asset a cell, in the gpu location) or `BOARD`.
        controls: reads the controls' scores, and can make them first.
    """

    name: str
    tables: tuple[TableSpec, ...]
    description: str
    group: str
    controls: bool = False

    @property
    def grid(self) -> bool:
        """One asset partition a cell."""
        return self.group == CELLS

    @property
    def calls_model(self) -> bool:
        """Some table of it may call a model."""
        return any(t.gpu for t in self.tables)

    @property
    def outputs(self) -> list[str]:
        """Names of its tables."""
        return [name for t in self.tables for name in t.outputs]


class Nodes:
    """All nodes of a bench, in an order in which they can be run: who makes which table, who reads whom."""

    def __init__(self, nodes: Sequence[Node], bench: BenchSpec) -> None:
        self.all, self.bench = tuple(nodes), bench
        self._makers: dict[str, tuple[Node, TableSpec]] = {}
        for node in nodes:
            if [n.name for n in nodes].count(node.name) > 1:
                raise ConfigError(
                    f"bench {bench.name!r}: two nodes are called {node.name!r}; give the kind of part another"
                )
            for spec in node.tables:
                if missing := [a for a in spec.reads(bench) if a not in self._makers and a not in _outputs(nodes)]:
                    raise ConfigError(
                        f"bench {bench.name!r}, node {node.name!r}: step {spec.name!r} needs table {missing[0]!r}, "
                        "which nothing on this bench makes"
                    )
                for name in spec.outputs:
                    if name in self._makers:
                        raise ConfigError(
                            f"bench {bench.name!r}: nodes {self._makers[name][0].name!r} and {node.name!r} both make a "
                            f"table {name!r}: give it another name"
                        )
                    self._makers[name] = (node, spec)

    def maker(self, table: str) -> TableSpec:
        """The declaration that a table is an output of."""
        return self._makers[table][1]

    def node_of(self, table: str) -> str:
        """Name of the node that a table belongs to."""
        return self._makers[table][0].name

    def upstream(self, node: Node) -> list[str]:
        """Names of the nodes whose tables a node reads."""
        read = {self.node_of(a) for t in node.tables for a in t.reads(self.bench)} - {node.name}
        return [n.name for n in self.all if n.name in read]

    @cached_property
    def model_nodes(self) -> list[str]:
        """Nodes of a cell that may call its model, in the order in which they run."""
        return [n.name for n in self.all if n.calls_model]

    @cached_property
    def behind_scores(self) -> list[Node]:
        """The nodes whose tables a cell's scores follow from, those with the scores included: what a control takes."""
        wanted = {n.name for n in self.all if n.controls}
        for node in reversed(self.all):
            if node.name in wanted:
                wanted |= set(self.upstream(node))
        return [n for n in self.all if n.name in wanted]

    def priority(self, node: Node) -> int:
        """Dagster takes the highest first."""
        return len(self.all) - self.all.index(node)


def _outputs(nodes: Sequence[Node]) -> set[str]:
    return {name for node in nodes for name in node.outputs}


#: What to do about controls that have no scores yet.
WITH_CONTROLS = {
    "with_controls": dg.Field(
        bool, default_value=False, description="Make the controls without scores, or with old ones, first, in this run"
    )
}


def build_asset(node: Node, bench: BenchSpec, nodes: Nodes) -> dg.AssetsDefinition:
    """The Dagster asset of a node on a bench."""
    key = dg.AssetKey([bench.name, node.name])
    settings: dict[str, Any] = {
        "key": key,
        "description": _described(node),
        "group_name": f"{_slug(bench.name)}_{node.group}",
        "code_version": digest_json([[t.name, t.version] for t in node.tables])[:12],
        "kinds": {"parquet", "gpu" if node.calls_model else "polars", *(k for t in node.tables for k in t.kinds)},
        "owners": ["team:steerworks"],
        "metadata": _columns(node),
        "deps": [dg.AssetKey([bench.name, name]) for name in nodes.upstream(node)],
        "partitions_def": cell_partitions(bench) if node.grid else None,
        "check_specs": _checks(node, key),
        "output_required": False,
        "config_schema": WITH_CONTROLS if node.controls else None,
        # what calls a model costs money and time: that is asked for, or scheduled
        "automation_condition": None
        if node.calls_model
        else follows(all_cells=node.group == BOARD, besides=[] if node.group == SHARED else _shared(nodes, bench)),
        "tags": gpu_tags() if node.calls_model else None,
        # what calls the model goes first, so that the device is let go before scores and pages
        "op_tags": {**gpu_marks(), "dagster/priority": str(nodes.priority(node))} if node.calls_model else None,
    }

    @dg.asset(**settings)
    def asset(context):  # type: ignore[no-untyped-def]  # Dagster reads annotations here
        config = context.op_execution_context.op_config or {}
        yield from _materialize(node, bench, nodes, context, with_controls=config.get("with_controls", False))

    return asset


def _shared(nodes: Nodes, bench: BenchSpec) -> list[dg.AssetKey]:
    return [dg.AssetKey([bench.name, n.name]) for n in nodes.all if n.group == SHARED]


def _slug(name: str) -> str:
    return name.replace("-", "_").replace(".", "_")


def _described(node: Node) -> str:
    lines = [f"* `{', '.join(t.outputs)}`: {t.description}" for t in node.tables]
    return "\n".join([node.description, "", *lines])


def _columns(node: Node) -> dict[str, Any]:
    """Contracts of the tables; the first one's columns are also shown as the asset's."""
    contracts = {name: c for t in node.tables for name, c in t.outputs.items()}
    return {
        "dagster/column_schema": table_schema(next(iter(contracts.values()))),
        **{f"columns of {name}, v{c.version()}": table_schema(c) for name, c in list(contracts.items())[1:]},
    }


def _checks(node: Node, key: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    kept = f"Every table keeps its contract: {', '.join(node.outputs)}"
    return [
        dg.AssetCheckSpec("contract", asset=key, blocking=True, description=kept),
        *(
            dg.AssetCheckSpec(s.name, asset=key, description=s.description, blocking=s.blocking)
            for t in node.tables
            for s in t.science
        ),
    ]


def _materialize(node: Node, bench: BenchSpec, nodes: Nodes, context: Any, *, with_controls: bool) -> Iterator[Any]:
    cell = read_key(bench, context.partition_key) if node.grid else None
    work = Work(bench, storage_root(), context.log, cell)
    key = context.asset_key
    if cell is not None and (why := cell.why_impossible()):
        context.log.warning("cell %s is left out: %s", cell.key, why)
        for check in context.selected_asset_check_keys:
            # checks must report even for a cell that is left out: they pass, and say why nothing was looked at
            yield dg.AssetCheckResult(passed=True, check_name=check.name, metadata={"left out": why})
        return
    DEVICES.who = f"{bench.name}, {cell.key if cell else node.name}, run {context.run.run_id[:8]}"
    DEVICES.say = lambda line: (context.log.info(line), says(line))
    said: dict[str, Any] = {}
    # it looks at nodes itself, to tell which have nothing to ask any more
    from steer_assets.preflight import PLANS, check_engines

    try:
        if cell is not None and node.calls_model and node.name != PLANS:
            check_engines(cell)
        if node.controls and cell is not None:
            said |= _controls(nodes, work, context, with_controls)
        DEVICES.keep = node.calls_model
        with drawing(_curve(context)), within(context), of_run(context.instance, context.run.run_id):
            facts, checks, found = _run_tables(node, work, nodes)
    except BrokenContractError as error:
        let_go()
        yield dg.AssetCheckResult(
            passed=False, check_name="contract", metadata={"broken": str(error), "table": error.table}
        )
        raise dg.Failure(str(error), allow_retries=False) from error
    except SteerworksError as error:
        let_go()
        raise dg.Failure(str(error), allow_retries=False) from error
    except BaseException:
        # also when the run is cancelled: another one may be waiting
        let_go()
        raise
    if not _wanted_later(node, nodes, context):
        let_go()
    yield dg.MaterializeResult(
        metadata=_told(facts) | said | found, data_version=dg.DataVersion(_version(facts)), asset_key=key
    )
    yield dg.AssetCheckResult(passed=True, check_name="contract")
    selected = {k.name for k in context.selected_asset_check_keys}
    yield from (c for c in checks if c.check_name in selected)


def _curve(context: Any) -> Callable[[int, Mapping[str, float]], None]:
    """Steps of training as observations of the asset: the interface draws their figures while a run goes on."""

    def curve(step: int, figures: Mapping[str, float]) -> None:
        drawn = {name: value for name, value in figures.items() if math.isfinite(value)}
        context.log_event(
            dg.AssetObservation(
                context.asset_key,
                partition=context.partition_key if context.has_partition_key else None,
                metadata={"step": step, **drawn},
            )
        )

    return curve


def _wanted_later(node: Node, nodes: Nodes, context: Any) -> bool:
    """Whether a later node of this run may want the weights."""
    if node.name not in nodes.model_nodes:
        return False
    later = nodes.model_nodes[nodes.model_nodes.index(node.name) + 1 :]
    selected = {k.path[-1] for k in context.job_def.asset_layer.selected_asset_keys}
    return bool(selected & set(later))


def _run_tables(node: Node, work: Work, nodes: Nodes) -> tuple[list[Fact], list[dg.AssetCheckResult], dict[str, Any]]:
    facts: list[Fact] = []
    checks: list[dg.AssetCheckResult] = []
    found: dict[str, Any] = {}
    for spec in node.tables:
        done = run_step(spec, work, nodes)
        facts += done.facts
        if done.figures:
            found[f"{spec.name}: took"] = ", ".join(f"{name} {value:g}" for name, value in done.figures.items())
        told = spec.metadata(work, done.frames) if spec.metadata and done.frames else {}
        found |= {f"{spec.name}: {k}" if k in found else k: v for k, v in told.items()}
        checks += [_judged(s, work, done) for s in spec.science]
    return facts, checks, found


def _judged(science: Any, work: Work, done: Done) -> dg.AssetCheckResult:
    judged = science.judge(work, done.frames) if done.frames else None
    passed, said = judged if judged is not None else (True, {"applies": False})
    return dg.AssetCheckResult(passed=passed, check_name=science.name, severity=science.severity, metadata=said)


def _told(facts: Sequence[Fact]) -> dict[str, Any]:
    """The tables as a table, and how many rows there are of the first."""
    records = [dg.TableRecord({"table": f.table, "status": f.status, "rows": f.rows, "file": f.url}) for f in facts]
    rows = {"dagster/row_count": facts[0].rows} if facts[0].url else {}
    return {"tables": dg.MetadataValue.table(records, schema=_FACTS), **rows}


_FACTS = dg.TableSchema(
    [dg.TableColumn("table"), dg.TableColumn("status"), dg.TableColumn("rows", "int"), dg.TableColumn("file")]
)


def _version(facts: Sequence[Fact]) -> str:
    """Changes when rows of a table do, and not when they come out the same."""
    return digest_json({f.table: f.content for f in facts if f.status != NOT_HERE})


def _controls(nodes: Nodes, work: Work, context: Any, make: bool) -> Mapping[str, Any]:
    """Name the controls without scores, or with old ones; on request make them first, in this run."""
    missing = missing_controls(work.here, work.root)
    old = [c.key for c in controls_of(work.here) if c.key not in missing and not _current(c, nodes, work)]
    if make:
        for cell in controls_of(work.here):
            if cell.key in (*missing, *old):
                context.log.info("control %s first", cell.key)
                _make_control(cell, nodes, work, context)
        return {"controls made": ", ".join([*missing, *old])} if missing or old else {}
    said = {}
    for title, keys, why in (
        ("missing controls", missing, "which have no scores yet"),
        ("controls out of date", old, "whose scores are out of date"),
    ):
        if keys:
            context.log.warning(
                "%s is held against %s, %s: materialize those, and this again; or run job %s_cell_with_controls",
                work.here.key,
                ", ".join(keys),
                why,
                _slug(work.bench.name),
            )
            said[title] = ", ".join(keys)
    return said


def _current(cell: Cell, nodes: Nodes, work: Work) -> bool:
    """Whether a control's scores follow from what lies there now."""
    if cell.why_impossible() is not None:
        return True
    there = work.of(cell)
    try:
        return all(
            is_current(t, there, nodes) for n in nodes.behind_scores if n.grid for t in n.tables if t.applies(there)
        )
    except SteerworksError:
        # an input is gone, or its file cannot be read
        return False


def _make_control(cell: Cell, nodes: Nodes, work: Work, context: Any) -> None:
    there = work.of(cell)
    DEVICES.keep = True
    for node in nodes.all:
        if node.grid and node in nodes.behind_scores:
            facts, _, found = _run_tables(node, there, nodes)
            context.log_event(
                dg.AssetMaterialization(
                    dg.AssetKey([work.bench.name, node.name]),
                    partition=cell.key,
                    metadata=_told(facts) | found,
                    tags={"dagster/data_version": _version(facts)},
                )
            )
    let_go()
