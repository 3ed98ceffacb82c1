"""Asking a cell's model: its method, the run that it takes, and the answers to requests."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import polars as pl

from schemas.specs import MethodSpec
from steer_assets.compute import backend_for, device_lease, device_of
from steer_assets.measuring import measuring_aside, model_digest, ruler_of
from steer_assets.settings import registry
from steer_assets.tables import Work
from steer_core.generation.backend import Backend
from steer_core.generation.run import Run
from steer_core.goals.space import GoalSpace
from steer_core.methods import driver
from steer_core.methods.fitting import give
from steer_core.methods.load import code_digest, load_method
from steer_core.methods.part import Arm, Part, parts_of
from steer_core.methods.protocol import Artifact, Method


def method_of(work: Work, spec: MethodSpec | None = None) -> Method:
    """A method for the cell's model and bench; by default the cell's own."""
    cell = work.here
    return load_method(spec or cell.method, cell.model, work.bench, registry().goals_of(work.bench))


def own_parts(work: Work) -> tuple[Part, ...]:
    """The parts that are applied to the plans of the cell's method."""
    return parts_of(method_of(work))


@contextlib.contextmanager
def asking(work: Work, what: str) -> Iterator[Run]:
    """A run that asks the cell's model; its device is held inside the context."""
    with device_lease(device_of(work.here.model)):
        yield run_of(work, what, backend_for(work.here.model))


def run_of(work: Work, what: str, backend: Backend | None) -> Run:
    """What travels together: backend, journal, seed, batch size, progress."""
    return Run(
        work.journal,
        backend,
        seed=work.bench.seed,
        batch_size=work.bench.batch_size,
        progress=work.progress(what),
    )


def answer(
    work: Work,
    spec: MethodSpec,
    tables: Mapping[str, pl.DataFrame],
    artifact: Artifact,
    probes: list[str],
    arms: Sequence[Arm] = (),
) -> driver.Answered:
    """Run a method on the requests of some probes; texts are measured while others are being written.

    Args:
        work: the cell.
        spec: the method.
        tables: `requests`, `request_goals`, `goal_space`, and what its parts were fitted to.
        artifact: what it has learnt.
        probes: names of the probes.
        arms: settings that every request is also asked at.
    """
    method, space = method_of(work, spec), GoalSpace.from_table(tables["goal_space"])
    requests = tables["requests"].filter(pl.col("probe").is_in(probes))
    ruler = ruler_of(work.bench, space) if method.traits.measures else None

    def made(run: Run) -> driver.Answered:
        return driver.run_method(
            method, requests, tables["request_goals"], space.goals, run, artifact=artifact, arms=arms
        )

    if not method.traits.calls_model:
        return made(replace(run_of(work, "responses", None), ruler=ruler))
    with asking(work, "responses") as run, measuring_aside(work.bench, device_of(work.here.model)) as listener:
        give(method, run.asking, tables)
        return made(replace(run, ruler=ruler, listener=listener))


def follows_from(work: Work, method: MethodSpec | None) -> list[Any]:
    """What decides a cell's answers, besides its tables."""
    words = {n: [g.noun, g.more, g.less] for n, g in registry().goals_of(work.bench).items()}
    decoding = work.bench.decoding.model_dump(mode="json")
    what = method and [method.spec_hash, method_of(work, method).traits.digest]
    model = model_digest(work.here.model) if method_of(work, method).traits.calls_model else None
    return [what, model, decoding, work.bench.seed, words, method and code_digest(method)]
