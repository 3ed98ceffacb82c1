"""From a plain function on tables to a Dagster asset: fingerprint, skip, guard, metadata, checks.

A body is declared once and made into an asset for each bench:

    @table(SteerabilitySummary, group="evaluation", version=VERSION, spec=lambda work: work.bench.bootstrap)
    def steerability_summary(work, steerability): ...

The names of its arguments after `work` are the tables it reads. It runs only when what it follows from has changed.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
import polars as pl

from schemas.contract import Contract
from schemas.digest import digest_json
from schemas.responses import Responses
from schemas.specs import BenchSpec
from steer_assets.automation import follows
from steer_assets.compute import gpu_tags
from steer_assets.contracts import definition_metadata
from steer_assets.io import NewTable, Snapshot, Unchanged, table_url
from steer_assets.partitions import Cell, cell_partitions, own_and_controls, read_key
from steer_assets.settings import storage_root
from steer_core.tables.errors import ContractError, SteerworksError, TableError
from steer_core.tables.files import join
from steer_core.tables.footer import Footer
from steer_core.tables.journal import Journal
from steer_core.tables.snapshot import content_digest, read_footer, read_table
from steer_core.tables.validation import check


@dataclass(frozen=True)
class Work:
    """What a body is given besides its tables.

    Attributes:
        bench: the bench.
        root: storage root.
        log: the run's logger.
        cell: model and method, for tables of the grid.
    """

    bench: BenchSpec
    root: str
    log: Any
    cell: Cell | None = None

    @property
    def here(self) -> Cell:
        """The cell of a grid table."""
        assert self.cell is not None
        return self.cell

    @property
    def journal(self) -> Journal:
        """Answers of the cell's model on this bench, whichever method asked."""
        return Journal(self.url("journal", f"model={self.here.model.name}"), Responses)

    def url(self, *parts: str) -> str:
        """A URL below the bench's folder."""
        return join(self.root, self.bench.name, *parts)


@dataclass(frozen=True)
class Science:
    """A check on what the rows say; `judge` returns (passed, metadata), or None where the check does not apply."""

    name: str
    description: str
    judge: Callable[[Work, Mapping[str, pl.DataFrame]], tuple[bool, dict[str, Any]] | None]
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR


@dataclass(frozen=True)
class TableSpec:
    """A declared table (or several that one body writes)."""

    name: str
    outputs: Mapping[str, type[Contract]]
    body: Callable[..., Any]
    group: str
    version: str
    spec: Callable[[Work], Any]
    grid: bool
    gpu: bool
    kinds: frozenset[str]
    fan_in: Mapping[str, str]
    science: tuple[Science, ...]
    metadata: Callable[[Work, Mapping[str, pl.DataFrame]], dict[str, Any]] | None
    intact: Callable[[Work, Mapping[str, pl.DataFrame]], bool] | None
    inputs: tuple[str, ...] = field(default=())


def table(
    *contracts: type[Contract],
    group: str,
    version: str,
    spec: Callable[[Work], Any] = lambda work: None,
    names: tuple[str, ...] | None = None,
    grid: bool = False,
    gpu: bool = False,
    kinds: tuple[str, ...] = (),
    fan_in: Mapping[str, str] | None = None,
    science: tuple[Science, ...] = (),
    metadata: Callable[[Work, Mapping[str, pl.DataFrame]], dict[str, Any]] | None = None,
    intact: Callable[[Work, Mapping[str, pl.DataFrame]], bool] | None = None,
) -> Callable[[Callable[..., Any]], TableSpec]:
    """Declare a table.

    Args:
        contracts: contracts of the outputs, in the order in which the body returns them.
        group: Dagster group.
        version: code version: raised when the same inputs give other rows.
        spec: the part of the configuration that the rows follow from (anything JSON can hold).
        names: table names; by default the function's name, or the contracts' for several outputs.
        grid: one table a cell.
        gpu: runs in the gpu location.
        kinds: further Dagster kinds.
        fan_in: argument -> `controls` (own cell and controls) or `grid` (all cells); missing cells are left out, and
            the frame has columns method and model.
        science: checks on the rows.
        metadata: metadata from the rows.
        intact: whether files beside the table are still there.
    """

    def declare(body: Callable[..., Any]) -> TableSpec:
        called = names or ((body.__name__,) if len(contracts) == 1 else tuple(c.table() for c in contracts))
        return TableSpec(
            name=body.__name__,
            outputs=dict(zip(called, contracts, strict=True)),
            body=body,
            group=group,
            version=version,
            spec=spec,
            grid=grid,
            gpu=gpu,
            kinds=frozenset({"parquet", "gpu" if gpu else "polars", *kinds}),
            fan_in=fan_in or {},
            science=science,
            metadata=metadata,
            intact=intact,
            inputs=tuple(inspect.signature(body).parameters)[1:],
        )

    return declare


def build_asset(spec: TableSpec, bench: BenchSpec) -> dg.AssetsDefinition:
    """The Dagster asset of a declared table on a bench."""
    partitions = cell_partitions(bench) if spec.grid else None
    description = inspect.getdoc(spec.body)
    keys = {name: dg.AssetKey([bench.name, name]) for name in spec.outputs}
    checks = [
        *(dg.AssetCheckSpec("contract", asset=keys[n], blocking=True, description=f"Keeps contract {c.table()}")
          for n, c in spec.outputs.items()),
        *(dg.AssetCheckSpec(s.name, asset=next(iter(keys.values())), description=s.description) for s in spec.science),
    ]  # fmt: skip

    @dg.multi_asset(
        name=f"{bench.name}__{spec.name}".replace("-", "_").replace(".", "_"),
        outs={
            name: dg.AssetOut(
                key=keys[name],
                description=description,
                group_name=spec.group,
                code_version=spec.version,
                kinds=set(spec.kinds),
                owners=["team:steerworks"],
                metadata=definition_metadata(contract),
                is_required=False,
                # what calls a model costs money and time: that is asked for, or scheduled
                automation_condition=None if spec.gpu else follows(),
                tags={k: str(v) for k, v in gpu_tags().items()} if spec.gpu else None,
            )
            for name, contract in spec.outputs.items()
        },
        ins={argument: _asset_in(argument, spec, bench) for argument in spec.inputs},
        partitions_def=partitions,
        check_specs=checks,
        can_subset=len(spec.outputs) > 1,
        op_tags=gpu_tags() if spec.gpu else None,
    )
    def asset(context, **inputs):  # type: ignore[no-untyped-def]  # Dagster reads annotations here
        cell = read_key(bench, context.partition_key) if spec.grid else None
        work = Work(bench, storage_root(), context.log, cell)
        yield from _run(spec, work, inputs, keys, context)

    return asset


def _asset_in(argument: str, spec: TableSpec, bench: BenchSpec) -> dg.AssetIn:
    kind = spec.fan_in.get(argument)
    mapping = own_and_controls(bench) if kind == "controls" else dg.AllPartitionMapping() if kind == "grid" else None
    return dg.AssetIn(
        key=dg.AssetKey([bench.name, argument]),
        partition_mapping=mapping,
        metadata={"allow_missing": kind is not None},
    )


def _run(
    spec: TableSpec, work: Work, inputs: Mapping[str, Snapshot], keys: Mapping[str, dg.AssetKey], context: Any
) -> Iterator[Any]:
    if work.cell is not None and (why := work.cell.why_impossible()):
        context.log.warning("cell %s is left out: %s", work.cell.key, why)
        for key in context.selected_asset_check_keys:
            # checks must report even for a cell that is left out: they pass, and say why nothing was looked at
            yield dg.AssetCheckResult(
                passed=True, check_name=key.name, asset_key=key.asset_key, metadata={"left out": why}
            )
        return
    footers = _footers(spec, work, inputs)
    urls = {n: table_url(work.root, keys[n], work.cell.key if work.cell else None) for n in spec.outputs}
    frames = _published(spec, work, footers, urls)
    unchanged = frames is not None
    try:
        if frames is None:
            made = spec.body(work, **{a: s.frame(cells=a in spec.fan_in) for a, s in inputs.items()})
            made = made if isinstance(made, tuple) else (made,)
            frames = dict(zip(spec.outputs, made, strict=True))
        else:
            context.log.info("%s: unchanged", spec.name)
    except SteerworksError as error:
        raise dg.Failure(f"{spec.name}: {error}", allow_retries=False) from error
    extra = spec.metadata(work, frames) if spec.metadata else {}
    for name, contract in spec.outputs.items():
        if name not in context.op_execution_context.selected_output_names:
            continue
        frame = frames[name]
        # the IO manager refuses bad rows; here they also become a red check in the UI
        try:
            frame = check(frame, contract)
        except SteerworksError as error:
            yield dg.AssetCheckResult(
                passed=False, check_name="contract", asset_key=keys[name], metadata={"broken": str(error)}
            )
            raise dg.Failure(f"{error}\nThis table was not written.", allow_retries=False) from error
        value = Unchanged(footers[name]) if unchanged else NewTable(frame, footers[name])
        yield dg.Output(
            value,
            output_name=name,
            data_version=dg.DataVersion(read_footer(urls[name]).content if unchanged else content_digest(frame)),
            metadata={"dagster/row_count": frame.height, "spec_hash": footers[name].spec_hash, **extra},
        )
        yield dg.AssetCheckResult(passed=True, check_name="contract", asset_key=keys[name])
    for science in spec.science:
        if dg.AssetCheckKey(next(iter(keys.values())), science.name) not in context.selected_asset_check_keys:
            continue
        judged = science.judge(work, frames)
        passed, said = judged if judged is not None else (True, {"applies": False})
        yield dg.AssetCheckResult(
            passed=passed,
            check_name=science.name,
            asset_key=next(iter(keys.values())),
            severity=science.severity,
            metadata=said,
        )


def _footers(spec: TableSpec, work: Work, inputs: Mapping[str, Snapshot]) -> dict[str, Footer]:
    digests = {f"{a}[{k}]" if k else a: d for a, s in inputs.items() for k, d in s.digests.items()}
    try:
        spec_hash = digest_json([spec.name, spec.spec(work)])
    except SteerworksError as error:
        raise dg.Failure(f"{spec.name}: {error}", allow_retries=False) from error
    return {
        name: Footer(
            contract=contract.table(),
            contract_version=contract.version(),
            code_version=spec.version,
            spec_hash=spec_hash,
            seed=work.bench.seed,
            inputs=digests,
        )
        for name, contract in spec.outputs.items()
    }


def _published(
    spec: TableSpec, work: Work, footers: Mapping[str, Footer], urls: Mapping[str, str]
) -> dict[str, pl.DataFrame] | None:
    """The published tables, if they follow from exactly this; None where there is work to do."""
    frames = {}
    for name, url in urls.items():
        try:
            if read_footer(url).fingerprint != footers[name].fingerprint:
                return None
            frames[name] = read_table(url, spec.outputs[name])
        except (TableError, ContractError):
            # damaged or broken: made again
            return None
    return frames if spec.intact is None or spec.intact(work, frames) else None


def owned_by(bench: BenchSpec, specs: list[TableSpec]) -> list[dg.AssetsDefinition]:
    """The assets of a bench."""
    return [build_asset(s, bench) for s in specs]
