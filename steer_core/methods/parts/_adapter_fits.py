"""How adapters come to be: trained by a recipe, read from a folder or the hub, or taken by name from a server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl

from schemas.adapter_part import Recipe
from schemas.adapters import Adapters, TrainingLog, TrainingMeasures, TrainingSamples
from schemas.digest import canonical_json, digest_bytes, digest_json
from steer_core.adapters.hub import states_of_hub
from steer_core.adapters.recipe import Training, recipe_module, train
from steer_core.adapters.rewards import Target
from steer_core.adapters.run import RunFolder
from steer_core.adapters.states import State, keep_state, state_of, states_in
from steer_core.generation.journalled import printable
from steer_core.goals.space import GoalSpace
from steer_core.methods.driver import failure_of, requests_from
from steer_core.methods.fitting import FitContext, Tables, gather
from steer_core.methods.part import Composed, Part
from steer_core.methods.parts._adapter_needs import content_of, others_of, plans_under, written_by
from steer_core.methods.parts._adapter_pool import pool_of
from steer_core.methods.parts._adapter_pool import spec_of as _spec
from steer_core.methods.parts._adapter_served import served_rows
from steer_core.methods.protocol import Artifact, Choose, Method, Request
from steer_core.models.loading import fingerprint_of, load_model
from steer_core.steering.plan import Plan
from steer_core.tables.errors import SteerworksError

#: Bumped when the same recipe and pool give other adapters, or other trials.
VERSION = "1"
#: Folders of runs and of adapters, below the bench's.
RUNS, STATES = "training_runs", "adapter_states"


def make_adapters(part: Part, cell: FitContext, tables: Tables) -> tuple[pl.DataFrame, ...]:
    """Trains the adapter on the training pool, or reads one from elsewhere; each state that is kept is a row."""
    spec = _spec(part)
    if spec.recipe is not None:
        return _trained(part, spec.recipe, cell, tables)
    if spec.served is not None:
        with cell.asking("adapters that are served") as run:
            rows = served_rows(part.label, spec.served, run.asking, fingerprint_of(cell.model))
        return rows, TrainingLog.empty(), TrainingSamples.empty(), TrainingMeasures.empty()
    if spec.hub is not None:
        states, folders = states_of_hub(spec.hub, str(spec.revision), cell.folders, STATES)
    else:
        states = states_in(Path(str(spec.folder)).expanduser())
        folders = [str(s.adapter.folder) for s in states]
    rows = _rows(part.label, states, cell, folders, recipe=None, hashes=("", ""))
    return rows, TrainingLog.empty(), TrainingSamples.empty(), TrainingMeasures.empty()


def _trained(part: Part, recipe: Recipe, cell: FitContext, tables: Tables) -> tuple[pl.DataFrame, ...]:
    method = cast(Composed, cell.method).before(part.label)
    requests, _ = pool_of(cell, tables, _spec(part).trial_texts)
    space = GoalSpace.from_table(tables["goal_space"])
    asked = tables["request_goals"].join(requests, on="request_id", how="semi")
    wanted = requests_from(requests, asked, space.goals)
    artifact = gather(method, tables)
    plans = {r.request_id: _prompt(method, r, artifact) for r in wanted}
    fingerprint = fingerprint_of(cell.model)
    settings = recipe.model_dump(mode="json") | written_by(recipe, cell)
    also = {name: plans_under(name, method, wanted) for name in recipe.also_under()}
    said: list[Any] = [sorted((r, p.id) for r, p in plans.items()), asked.sort("request_id", "goal").rows()]
    said += [[digest_bytes(content_of(f)) for f in recipe.files()]] if recipe.files() else []
    data = digest_json([*said, *(sorted((r, p.id) for r, p in more.items()) for more in also.values())])
    known = digest_json([settings, recipe_module(recipe.kind).VERSION, VERSION, fingerprint, data])
    run = RunFolder(cell.folders.local(f"{RUNS}/{known}"))
    training = Training(
        load=lambda: load_model(cell.model),
        plans=plans,
        targets={r.request_id: _target(r) for r in wanted},
        goals=tuple(space.goals),
        comparatives={name: (goal.less, goal.more) for name, goal in cell.goals.items()},
        ruler=cell.ruler(space),
        failure=_failure(method, {r.request_id: r.text for r in wanted}),
        run=run,
        base=cell.model.source,
        also=also,
        say=cell.say,
        observe=cell.observe,
        name=cell.model.name,
        others={name: other.asking for name, other in others_of(recipe, cell).items()},
    )
    with cell.training():
        checkpoints = train(recipe, training)
    states, folders = [], []
    for step, checkpoint in sorted(checkpoints.items()):
        name = f"{STATES}/{known}/step-{step}"
        keep_state(checkpoint, cell.folders.local(name), cell.model.source)
        cell.folders.publish(name)
        states.append(state_of(cell.folders.local(name), step, f"step {step}"))
        folders.append(name)
    hashes = (digest_json(settings), data)
    return (
        _rows(part.label, states, cell, folders, recipe=recipe, hashes=hashes),
        *(
            _streamed(run, name, part.label, contract)
            for name, contract in (("log", TrainingLog), ("samples", TrainingSamples), ("measures", TrainingMeasures))
        ),
    )


def _prompt(method: Method, request: Request, artifact: Artifact) -> Plan:
    step = method.step(request, artifact, ())
    if isinstance(step, Choose) or len(step) != 1:
        raise SteerworksError("an adapter is trained under a prompt that asks once")
    return step[0]


def _target(request: Request) -> Target:
    ends = [np.nan if g.z_star is None else g.z_star for g in request.goals]
    return Target(request.text, np.array([g.z0 for g in request.goals]), np.array(ends, dtype=np.float64))


def _failure(method: Method, sources: dict[str, str]) -> Any:
    def failure(request_id: str, raw: str, finish_reason: str) -> tuple[str, str | None]:
        text, parsed = method.clean(raw)
        text = printable(text)
        return text, failure_of(text, finish_reason, parsed, sources[request_id])

    return failure


def _rows(
    label: str,
    states: Sequence[State],
    cell: FitContext,
    folders: Sequence[str],
    *,
    recipe: Recipe | None,
    hashes: tuple[str, str],
) -> pl.DataFrame:
    rows = [
        {
            "part": label,
            "step": s.step,
            "label": s.label,
            "adapter": s.adapter.digest,
            "folder": folder,
            "base": fingerprint_of(cell.model),
            "recipe": canonical_json(dict(s.settings) if recipe is None else recipe.model_dump(mode="json")),
            "recipe_hash": hashes[0],
            "data_hash": hashes[1],
            "rank": s.rank,
            "parameters": s.parameters,
            "norm": s.norm,
        }
        for s, folder in zip(states, folders, strict=True)
    ]
    return pl.DataFrame(rows, schema=Adapters.empty().schema)


def _streamed(run: RunFolder, name: str, label: str, contract: Any) -> pl.DataFrame:
    rows = [{"part": label, **row} for row in run.rows(name)]
    found: pl.DataFrame = pl.DataFrame(rows, schema=contract.empty().schema)
    return found
