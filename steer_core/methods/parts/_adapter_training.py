"""Training the adapter of a part on the training pool: in this process, or by several of this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl

from schemas.adapter_part import Recipe
from schemas.digest import digest_bytes, digest_json
from schemas.specs import ModelSpec
from steer_core.adapters.launching import Group, Told, shown_cards
from steer_core.adapters.recipe import Training, not_shared, prepare, train
from steer_core.adapters.rewards import Target
from steer_core.adapters.run import RunFolder
from steer_core.goals.space import GoalSpace
from steer_core.methods.driver import requests_from
from steer_core.methods.fitting import FitContext, Tables, gather
from steer_core.methods.part import Composed, Part
from steer_core.methods.parts._adapter_job import comparatives, failures, job_of, run_digest, settings_of
from steer_core.methods.parts._adapter_needs import content_of, others_of, plans_under, written_by
from steer_core.methods.parts._adapter_prompts import plans_of_set
from steer_core.methods.protocol import Artifact, Choose, Method, Request
from steer_core.models.loading import device_of, load_model
from steer_core.steering.plan import Plan
from steer_core.tables.errors import ConfigError, SteerworksError

#: Folders of runs, below the bench's.
RUNS = "training_runs"


@dataclass(frozen=True)
class Trained:
    """A run that is done.

    Attributes:
        known: digest that it is known by.
        settings: what it was trained by: the recipe's, and what of other models it follows from.
        data: digest of what was trained on.
        run: where it lies.
        states: step -> the checkpoint that is kept.
    """

    known: str
    settings: Mapping[str, Any]
    data: str
    run: RunFolder
    states: dict[int, Path]


def trained(part: Part, recipe: Recipe, cell: FitContext, tables: Tables, requests: pl.DataFrame) -> Trained:
    """Train, or go on where a run of the same recipe, model and data stopped.

    Args:
        part: the adapter part.
        recipe: how.
        cell: where.
        tables: of the bench and the pool.
        requests: the training requests.

    Raises:
        ConfigError: so many processes cannot train by the recipe together; or as the recipe says.
        SteerworksError: as the recipe says; or the processes failed.
    """
    method = cast(Composed, cell.method).before(part.label)
    space = GoalSpace.from_table(tables["goal_space"])
    asked = tables["request_goals"].join(requests, on="request_id", how="semi")
    wanted = requests_from(requests, asked, space.goals)
    artifact = gather(method, tables)
    if (prompts := recipe.asked()) is not None:
        # what is asked as it stands is no request: nothing of the pool is trained on
        wanted, asked = [], asked.clear()
    plans = {r.request_id: _prompt(method, r, artifact) for r in wanted}
    if prompts is not None:
        plans = plans_of_set(prompts, cell.profiles, cell.model.identity, cell.bench.decoding)
    also = {name: plans_under(name, method, wanted) for name in recipe.also_under()}
    said: list[Any] = [sorted((r, p.id) for r, p in plans.items()), asked.sort("request_id", "goal").rows()]
    said += [[digest_bytes(content_of(f)) for f in recipe.files()]] if recipe.files() else []
    data = digest_json([*said, *(sorted((r, p.id) for r, p in more.items()) for more in also.values())])
    written = written_by(recipe, cell)
    known = run_digest(recipe, cell.model, data, written)
    run = RunFolder(cell.folders.local(f"{RUNS}/{known}"))
    training = Training(
        load=lambda: load_model(cell.model),
        plans=plans,
        targets={r.request_id: _target(r) for r in wanted},
        goals=tuple(space.goals),
        comparatives=comparatives(cell.goals),
        ruler=cell.ruler(space),
        failure=failures(method, {r.request_id: r.text for r in wanted}),
        run=run,
        base=cell.model.source,
        also=also,
        say=cell.say,
        observe=cell.observe,
        name=cell.model.name,
        others={name: other.asking for name, other in others_of(recipe, cell).items()},
    )
    with cell.training():
        if in_process(cell.model):
            states = train(recipe, training)
        else:
            states = _together(part.label, recipe, cell, training, space, data, known, written)
    return Trained(known, settings_of(recipe, written), data, run, states)


def _together(
    label: str,
    recipe: Recipe,
    cell: FitContext,
    training: Training,
    space: GoalSpace,
    data: str,
    known: str,
    written: Mapping[str, Any],
) -> dict[int, Path]:
    """Have several processes train, and find what they have left."""
    size = cell.model.training_processes
    if (wrong := not_shared(recipe, size)) is not None:
        raise ConfigError(wrong)
    # other models are asked from here, who has their engines
    prepare(recipe, training)
    on_cpu = device_of(cell.model) == "cpu"
    group = Group(training.run.path / "processes", size, on_cpu, environment=card_of(cell.model))
    job = job_of(label, cell, recipe, training, space, data, known, written, on_cpu=on_cpu)
    group.plan(job.model_dump_json())
    cell.launch(group, Told(cell.say, cell.observe))
    # a run that is done is only read
    return train(recipe, replace(training, load=_unfinished))


def in_process(model: ModelSpec) -> bool:
    """Whether this process trains a model's adapters itself.

    Not where it sees several cards: its trainer would spread the model over all of them. A process of its own is shown
    the one that is meant.
    """
    import torch

    alone = model.training_processes == 1
    return alone and (device_of(model) == "cpu" or torch.cuda.device_count() < 2)


def card_of(model: ModelSpec) -> dict[str, str]:
    """The variable that shows processes the card that a model's device names; empty where it names none."""
    import torch

    index = torch.device(device_of(model)).index
    return shown_cards([] if index is None else [index])


def _unfinished() -> Any:
    raise SteerworksError("the processes that train ended, and the run is not done: start it again")


def _prompt(method: Method, request: Request, artifact: Artifact) -> Plan:
    step = method.step(request, artifact, ())
    if isinstance(step, Choose) or len(step) != 1:
        raise SteerworksError("an adapter is trained under a prompt that asks once")
    return step[0]


def _target(request: Request) -> Target:
    ends = [np.nan if g.z_star is None else g.z_star for g in request.goals]
    return Target(request.text, np.array([g.z0 for g in request.goals]), np.array(ends, dtype=np.float64))
