"""What can be known before anything runs: files and models that the configuration names and that are not there."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from schemas.specs import BehaviorSpec, BenchSpec, GrammarBehavior
from steer_assets.asked_models import models_asked, sweeps
from steer_assets.partitions import Cell
from steer_assets.settings import config_folders, registry, storage_root
from steer_assets.status import node_is_current
from steer_assets.tables import Work
from steer_core.corpus.contrasts import source_digests
from steer_core.corpus.contrasts.grammar import check_levels
from steer_core.evaluation.judges.load import check_judge
from steer_core.evaluation.profiles import kind
from steer_core.generation.engines import describe_engine, lacks, out_of_reach
from steer_core.goals.scorer import load_scorer
from steer_core.methods.load import load_method
from steer_core.methods.part import parts_of
from steer_core.methods.sweeps.exclusions import check_exclusions
from steer_core.models.info import describe_model
from steer_core.tables.errors import ConfigError, SteerworksError, TableError
from steer_core.tables.files import filesystem

#: The node that plans: it is fitted to tokenizers, and asks no model.
PLANS = "plans"


def check_bench(bench: BenchSpec, cells: Sequence[Cell], *, reach: bool = False) -> None:
    """Refuse a configuration whose files, keys, packages or environments are not there.

    What only a model's engine needs is asked of models that still have something to do: an old page can be made again
    without the key.

    Args:
        bench: the bench.
        cells: what is wanted of it.
        reach: also connect to the addresses that the configuration names, as a run will.

    Raises:
        ConfigError: all of them at once, each with the file and entry that names it.
    """
    found = [*_storage(), *_corpus(bench), *_goals(bench), *_behaviors(bench), *_cells(bench, cells)]
    # what is not even described has been said
    found += [] if found else _engines(cells, reach=reach)
    if found:
        raise ConfigError("\n  - ".join(["nothing was run:", *dict.fromkeys(found)]))


def check_engines(cell: Cell) -> None:
    """Refuse to start a cell whose models cannot be asked, its judges included.

    Raises:
        ConfigError: what is missing, or where nobody answers, each with the file and entry that names it.
    """
    if found := list(_engines([cell], reach=True)):
        raise ConfigError("\n  - ".join(["nothing was asked:", *found]))


def _storage() -> Iterator[str]:
    try:
        filesystem(storage_root())
    except TableError as error:
        yield f"STEERWORKS_ROOT: {error}"


def _corpus(bench: BenchSpec) -> Iterator[str]:
    for source in bench.corpus.sources:
        path = getattr(source, "path", None)
        if path is not None and not _there(path):
            yield f"{_named('benches', bench.name)}: there is no file {path} (corpus source {source.name!r})"


def _goals(bench: BenchSpec) -> Iterator[str]:
    for name, goal in registry().goals_of(bench).items():
        try:
            load_scorer(goal)
        except SteerworksError as error:
            yield f"{_named('goals', name)}: {error}"


def _described(bench: BenchSpec) -> Iterator[str]:
    # assets are built on what this module checks
    from steer_assets.assets.traits import described_of, writer_of

    for behavior, source in described_of(bench):
        try:
            models = [writer_of(bench, behavior, source)]
            models += [registry().model(n) for n in (source.author, behavior.judge.model) if n is not None]
            for model in models:
                describe_model(model)
                describe_engine(model)
        except (SteerworksError, ValueError, OSError) as error:
            yield f"{_named('behaviors', behavior.name)}: {error}"


def _behaviors(bench: BenchSpec) -> Iterator[str]:
    yield from _described(bench)
    try:
        check_exclusions(bench.sweep)
    except ConfigError as error:
        yield f"{_named('benches', bench.name)}: {error}"
    for name in bench.behaviors:
        behavior: BehaviorSpec = registry().behavior(name)
        for path in source_digests(behavior):
            if not _there(path):
                yield f"{_named('behaviors', name)}: there is no file {path}"
        try:
            check_judge(behavior)
            if isinstance(behavior.source, GrammarBehavior):
                check_levels(behavior.source)
        except ConfigError as error:
            yield f"{_named('behaviors', name)}: {error}"


def _cells(bench: BenchSpec, cells: Sequence[Cell]) -> Iterator[str]:
    wanted = {c.model.name: c.model for c in cells} | (
        {bench.meaning_model: registry().model(bench.meaning_model)} if bench.meaning_model else {}
    )
    for profile in registry().profiles_of(bench).values():
        wanted |= {name: registry().model(name) for name in kind.reads(profile).values() if name is not None}
    if bench.validated_by:
        wanted[bench.validated_by] = registry().model(bench.validated_by)
    broken = set()
    for name, model in wanted.items():
        try:
            describe_model(model)
            describe_engine(model)
        except (SteerworksError, ValueError, OSError) as error:
            broken.add(name)
            yield f"{_named('models', name)}: {error}"
    for cell in cells:
        if cell.model.name in broken:
            continue
        try:
            goals = registry().goals_of(bench)
            method = load_method(cell.method, cell.model, bench, goals)
            for part in parts_of(method):
                mistakes = part.mistakes(cell.model, bench, list(registry().behaviors))
                for said in (*mistakes, *_others(part.asks(cell.model))):
                    yield f"{_named('methods', cell.method.name)}, part {part.label!r} on {cell.model.name}: {said}"
            if cell.why_impossible() is None and sweeps(cell) and not (engine := describe_engine(cell.model)).scores:
                yield (
                    f"{_named('models', cell.model.name)}: {cell.method.name} is swept over behaviors, which takes "
                    f"log-probabilities of given texts (perplexity, choices), and {engine.name} gives none: set "
                    "`endpoint.scores`, or another engine"
                )
        except (SteerworksError, ValueError, OSError) as error:
            yield f"{_named('methods', cell.method.name)}: {error}"


def _others(names: Sequence[str]) -> Iterator[str]:
    """What is wrong with further models that a part asks."""
    for name in names:
        try:
            model = registry().model(name)
            describe_model(model)
            describe_engine(model)
        except (SteerworksError, ValueError, OSError) as error:
            yield str(error)


def _engines(cells: Sequence[Cell], *, reach: bool) -> Iterator[str]:
    lacking: dict[str, list[str]] = {}
    for cell in cells:
        if cell.why_impossible() is not None:
            continue
        models = models_asked(cell)
        for name in models.keys() - lacking.keys():
            away = out_of_reach(models[name]) if reach else None
            lacking[name] = [*lacks(models[name]), *([] if away is None else [away])]
        if any(lacking[name] for name in models) and _asks(cell):
            yield from (f"{_named('models', name)}: {said}" for name in models for said in lacking[name])


def _asks(cell: Cell) -> bool:
    """Whether something of a cell, or before it, is still to be made by a model; its plans are made by none."""
    # assets are built on what this module checks
    from steer_assets.assets import nodes_of

    nodes, shared = nodes_of(cell.bench), Work(cell.bench, storage_root(), logging.getLogger(__name__))
    asking = [n for n in nodes.all if n.calls_model and n.name != PLANS]
    wanted = {n.name for n in asking} | {name for n in asking for name in nodes.upstream(n)}
    return not all(
        node_is_current(n, shared.of(cell) if n.grid else shared, nodes) for n in nodes.all if n.name in wanted
    )


def _there(path: str) -> bool:
    # what only a network can tell is left to the run
    return "://" in path or Path(path).expanduser().is_file()


def _named(kind: str, name: str) -> str:
    """The file and entry that decides: the last folder of the configuration that has it."""
    for folder in reversed(config_folders()):
        file = folder / f"{kind}.yaml"
        if file.exists() and name in (yaml.safe_load(file.read_text(encoding="utf-8")) or {}):
            return f"{file}, entry {name!r}"
    arrived = next((bench for bench, names in registry().arrived.items() if name in names), None)
    return f"{kind}.yaml, entry {name!r}" if arrived is None else f"{name!r}, which bench {arrived!r} watches for"
