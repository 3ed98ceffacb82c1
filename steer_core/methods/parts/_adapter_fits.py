"""How adapters come to be: trained by a recipe, read from a folder or the hub, or taken by name from a server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from schemas.adapter_part import Recipe
from schemas.adapters import Adapters, TrainingLog, TrainingMeasures, TrainingSamples
from schemas.digest import canonical_json, digest_json
from steer_core.adapters.hub import states_of_hub
from steer_core.adapters.run import RunFolder
from steer_core.adapters.states import State, keep_state, state_of, states_in
from steer_core.methods.fitting import FitContext, Tables
from steer_core.methods.part import Part
from steer_core.methods.parts._adapter_pool import pool_of
from steer_core.methods.parts._adapter_pool import spec_of as _spec
from steer_core.methods.parts._adapter_served import served_rows
from steer_core.methods.parts._adapter_training import trained
from steer_core.models.loading import fingerprint_of

#: Folder of adapters, below the bench's.
STATES = "adapter_states"


def make_adapters(part: Part, cell: FitContext, tables: Tables) -> tuple[pl.DataFrame, ...]:
    """Trains the adapter on the training pool, or reads one from elsewhere; each state that is kept is a row."""
    spec = _spec(part)
    if spec.recipe is not None:
        return _by_recipe(part, spec.recipe, cell, tables)
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


def _by_recipe(part: Part, recipe: Recipe, cell: FitContext, tables: Tables) -> tuple[pl.DataFrame, ...]:
    requests, _ = pool_of(cell, tables, _spec(part).trial_texts)
    found = trained(part, recipe, cell, tables, requests)
    states, folders = [], []
    for step, checkpoint in sorted(found.states.items()):
        name = f"{STATES}/{found.known}/step-{step}"
        keep_state(checkpoint, cell.folders.local(name), cell.model.source)
        cell.folders.publish(name)
        states.append(state_of(cell.folders.local(name), step, f"step {step}"))
        folders.append(name)
    hashes = (digest_json(dict(found.settings)), found.data)
    return (
        _rows(part.label, states, cell, folders, recipe=recipe, hashes=hashes),
        *(
            _streamed(found.run, name, part.label, contract)
            for name, contract in (("log", TrainingLog), ("samples", TrainingSamples), ("measures", TrainingMeasures))
        ),
    )


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
