"""What cells are fitted on, and what the parts of their methods learn: from the protocol, for every kind of part."""

from __future__ import annotations

import functools
import graphlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import polars as pl

from schemas import Artifacts, GoalValues, Outcomes, Responses
from schemas.parts import PromptPart
from schemas.specs import BenchSpec, MethodSpec
from steer_assets import pipes, progress
from steer_assets.assets.calling import answer, asking, follows_from, method_of, own_parts
from steer_assets.assets.contrasts import behaviors_of, source_of
from steer_assets.compute import beside_training, training_on
from steer_assets.io import read_published, table_url
from steer_assets.measuring import measure_texts, model_digest, ruler_of
from steer_assets.nodes import CELLS, Node
from steer_assets.settings import registry
from steer_assets.tables import Science, TableSpec, Work, table
from steer_core import extensions
from steer_core.methods import driver, fitting
from steer_core.methods.fitting import POOL, FitCheck, FitContext, FitStep, OtherModel, gather
from steer_core.methods.load import code_digest
from steer_core.methods.part import Part
from steer_core.methods.protocol import Artifact
from steer_core.tables.errors import ConfigError
from steer_core.tables.folders import Folders


def swept_part(work: Work) -> Part | None:
    """The part whose settings behaviors are swept over: the first that can be.

    None where a part acts on what all others do: an arm of a sweep has no place for it, and its figures would be those
    of the method without it.
    """
    parts = own_parts(work)
    return None if any(p.last for p in parts) else next((p for p in parts if p.sweeps), None)


def fit_context(work: Work) -> FitContext:
    """Where the cell's parts are fitted."""
    return FitContext(
        bench=work.bench,
        model=work.here.model,
        spec=work.here.method,
        method=method_of(work),
        goals=registry().goals_of(work.bench),
        behaviors=tuple(behaviors_of(work)),
        behavior=registry().behavior,
        source_of=source_of,
        asking=functools.partial(asking, work),
        ruler=functools.partial(ruler_of, work.bench),
        say=work.log.info,
        warn=lambda line: work.log.warning("%s: %s", work.here.key, line),
        measure=lambda outcomes: measure_texts(work.bench, outcomes.unique("text_id", maintain_order=True)),
        folders=Folders(work.url()),
        training=functools.partial(training_on, work.here.model),
        observe=functools.partial(progress.observed, work.here.key),
        other=_other_model,
        launch=pipes.launch,
        profiles=tuple(registry().profiles_of(work.bench).values()),
    )


def _other_model(name: str) -> OtherModel:
    model = registry().model(name)
    return OtherModel(model, functools.partial(model_digest, model), functools.partial(beside_training, model))


def fitting_kinds(bench: BenchSpec) -> dict[str, ModuleType]:
    """Kinds of parts that are fitted, by name: those that the methods of a bench have."""
    registry()  # folders of extensions are known from the configuration
    kinds = {name: found.load() for name, found in extensions.available("parts").items()}
    used = {p.kind for m in bench.methods for p in registry().method(m).parts}
    return {name: module for name, module in kinds.items() if hasattr(module, "NODE") and kind_of(module) in used}


def kind_of(module: ModuleType) -> str:
    """The kind of part that a module of the group `parts` is of, as configurations write it."""
    return str(module.SPEC.model_fields["kind"].default)


def fitted_tables(bench: BenchSpec) -> tuple[str, ...]:
    """Names of the tables that parts of a bench's methods are fitted to."""
    return tuple(name for module in fitting_kinds(bench).values() for step in module.FITS for name in step.outputs)


def given_tables(bench: BenchSpec) -> tuple[str, ...]:
    """Names of those that engines are given from: what plans refer to lies there."""
    return tuple(
        name
        for module in fitting_kinds(bench).values()
        for name in getattr(module, "GIVES", [n for step in module.FITS for n in step.outputs])
    )


def _kinds_before(bench: BenchSpec) -> dict[str, set[str]]:
    """Fitted kind -> fitted kinds that stand before it in some method of the bench."""
    fitted = {kind_of(m) for m in fitting_kinds(bench).values()}
    before: dict[str, set[str]] = {kind: set() for kind in fitted}
    for name in bench.methods:
        kinds = [p.kind for p in registry().method(name).parts if p.kind in fitted]
        for place, kind in enumerate(kinds):
            before[kind] |= set(kinds[:place]) - {kind}
    return before


def _fitted_before(bench: BenchSpec, kind: str) -> tuple[str, ...]:
    """Tables of the kinds that stand before a kind in some method of the bench."""
    wanted = _kinds_before(bench)[kind]
    modules = [m for m in fitting_kinds(bench).values() if kind_of(m) in wanted]
    return tuple(name for m in modules for step in m.FITS for name in step.outputs)


def fitting_nodes(bench: BenchSpec) -> list[Node]:
    """A node for each kind of part that is fitted, each after those that stand before it in some method.

    Raises:
        ConfigError: two methods of the bench have two kinds in different orders, so that each would wait for the other.
    """
    before, modules = _kinds_before(bench), {kind_of(m): m for m in fitting_kinds(bench).values()}
    try:
        order = list(graphlib.TopologicalSorter({k: sorted(before[k]) for k in modules}).static_order())
    except graphlib.CycleError as error:
        raise ConfigError(
            f"bench {bench.name!r}: its methods have parts of {', '.join(error.args[1][1:])} in different orders, "
            "and one node fits a kind for all of them: give them one order, or a bench each"
        ) from error
    for kind, module in modules.items():
        if getattr(module, "STEPS", False):
            raise ConfigError(
                f"kind of part {kind!r}: a part that writes the prompt learns by `fit`, and has no `FITS`"
            )
    return [
        Node(modules[k].NODE, tuple(_declared(step, k) for step in modules[k].FITS), modules[k].DESCRIPTION, CELLS)
        for k in order
    ]


@functools.cache
def _declared(step: FitStep, kind: str) -> TableSpec:
    """A step of a kind as a declared table."""

    def own(work: Work) -> list[Part]:
        return [p for p in own_parts(work) if p.spec.kind == kind]

    def follows(work: Work) -> Any:
        cell = fit_context(work)
        settings = [[p.label, step.settings(p), step.follows(p, cell)] for p in own(work)]
        return [settings, model_digest(work.here.model) if step.calls_model else None]

    def body(work: Work, **tables: pl.DataFrame) -> tuple[pl.DataFrame, ...]:
        return step.run(own(work), fit_context(work), tables)

    body.__name__, body.__doc__ = step.name, step.fit.__doc__
    return TableSpec(
        name=step.name,
        outputs=step.outputs,
        body=body,
        version=step.version,
        spec=follows,
        grid=True,
        gpu=step.calls_model,
        kinds=frozenset(step.kinds),
        fan_in={},
        narrow={},
        lenient=frozenset(),
        applies=lambda work: bool(own(work)),
        science=tuple(map(_science, step.checks)),
        metadata=None,
        intact=None,
        reads=lambda bench: tuple(dict.fromkeys((*step.needs, *(_fitted_before(bench, kind) if step.before else ())))),
    )


def _science(check: FitCheck) -> Science:
    """A check of a step as one of its node."""

    def judge(work: Work, frames: Mapping[str, pl.DataFrame]) -> tuple[bool, dict[str, Any]]:
        from steer_assets.assets import nodes_of

        nodes = nodes_of(work.bench)
        cells = {name: work.here.key if nodes.maker(name).grid else None for name in check.needs}
        read = {
            name: read_published(table_url(work.root, work.bench.name, name, cell), nodes.maker(name).outputs[name])
            for name, cell in cells.items()
        }
        passed, said = check.judge(work.bench, {**frames, **read})
        return passed, {"found": said}

    return Science(check.name, check.description, judge, blocking=True)


def pool_method(work: Work) -> MethodSpec | None:
    """The method whose answers to the training pool this cell is fitted on."""
    strategy = method_of(work).traits.fits_on
    return None if strategy is None else MethodSpec(name=strategy, parts=(PromptPart(strategy=strategy),))


@table(
    Responses,
    Outcomes,
    GoalValues,
    names=("fit_responses", "fit_outcomes", "fit_goal_values"),
    version=driver.VERSION,
    spec=lambda work: [follows_from(work, pool_method(work)), work.bench.train_probe],
    applies=lambda work: pool_method(work) is not None,
    grid=True,
    gpu=True,
    kinds=("huggingface",),
)
def fit_responses(
    work: Work, requests: pl.DataFrame, request_goals: pl.DataFrame, goal_space: pl.DataFrame
) -> tuple[pl.DataFrame, ...]:
    """Answers to the training pool that the method is fitted on, measured; none for methods that fit nothing."""
    pool = pool_method(work)
    assert pool is not None  # `applies`
    tables = {"requests": requests, "request_goals": request_goals, "goal_space": goal_space}
    run = answer(work, pool, tables, Artifact(), [str(work.bench.train_probe)])
    return run.responses, run.outcomes, measure_texts(work.bench, run.outcomes.unique("text_id", maintain_order=True))


@table(
    Artifacts,
    version=fitting.VERSION,
    spec=lambda work: [work.here.method.spec_hash, code_digest(work.here.method)],
    applies=lambda work: pool_method(work) is not None or _fitted(work),
    grid=True,
    also=lambda bench: (*POOL, *fitted_tables(bench)),
)
def artifacts(work: Work, **tables: pl.DataFrame) -> pl.DataFrame:
    """What the method learnt, put together: edit ideas, examples, doses."""
    return gather(method_of(work), tables).to_table()


def _fitted(work: Work) -> bool:
    kinds = {kind_of(m) for m in fitting_kinds(work.bench).values()}
    return any(p.spec.kind in kinds for p in own_parts(work))
